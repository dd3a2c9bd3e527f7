//! After a block was created its pool is read: a pool that was deleted in the meantime must not hand
//! out anything of it.

use super::{Agent, BlockKey, PoolCheck, PoolId, Purpose, Timer};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency};
use crate::core::objects::{Kind, Object, ObjectKey};
use crate::core::pool::fingerprint;

impl Agent {
    /// Reads the pool, so that nothing of a block just created is handed out for a pool that was
    /// deleted in the meantime. One read serves all blocks created before it is sent.
    pub(super) fn check_pool(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        if matches!(pool.check, PoolCheck::InFlight { .. }) {
            pool.check = PoolCheck::InFlight { again: true };
            return;
        }
        pool.check = PoolCheck::InFlight { again: false };
        let key = ObjectKey::cluster(Kind::AddressPool, pool.name.clone());
        self.call(
            Purpose::PoolCheck(id),
            ApiRequest::Get(key, Consistency::Quorum),
        );
    }

    pub(super) fn pool_checked(&mut self, id: PoolId, result: &Result<ApiReply, ApiError>) {
        let now = self.now;
        let entropy = self.draw();
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        let PoolCheck::InFlight { again } = pool.check else {
            return;
        };
        pool.check = PoolCheck::Idle;
        let usable = match result {
            Ok(ApiReply::Object(Object::AddressPool(object))) => {
                object.metadata.deletion_timestamp.is_none()
                    && pool.pool.as_ref().is_some_and(|pool| {
                        pool.uid == object.metadata.uid
                            && object
                                .status
                                .approved
                                .starts_with(&fingerprint(&object.metadata.uid, &object.spec))
                    })
            }
            Err(ApiError::NotFound) => false,
            // Another pool, or one that is going: that much can be read.
            Ok(ApiReply::Object(Object::SetAside(object)))
                if object.metadata.deletion_timestamp.is_some()
                    || pool
                        .pool
                        .as_ref()
                        .is_none_or(|p| p.uid != object.metadata.uid) =>
            {
                false
            }
            result => {
                // One that cannot be read is mended by people: nothing is handed out meanwhile.
                let attempt = if result.is_ok() { 6 } else { 0 };
                let pause = self.config.policy.api_retry.pause(attempt, entropy);
                self.arm(Timer::PoolCheck(id), now + pause);
                return;
            }
        };
        if again {
            self.check_pool(id);
            return;
        }
        let range = BlockKey { pool: id, index: 0 }..=BlockKey {
            pool: id,
            index: u64::MAX,
        };
        let unconfirmed: Vec<_> = self
            .blocks
            .range(range)
            .filter(|(_, block)| block.unconfirmed)
            .map(|(key, _)| *key)
            .collect();
        for key in unconfirmed {
            if usable {
                if let Some(block) = self.blocks.get_mut(&key) {
                    block.unconfirmed = false;
                }
                self.holders_may_proceed(key);
            }
        }
        if !usable {
            self.retire_pool(id);
        }
    }
}
