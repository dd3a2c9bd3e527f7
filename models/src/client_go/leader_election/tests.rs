//! Claims about one candidate, fed by hand.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use super::*;

const CONFIG: ElectionConfig = ElectionConfig {
    lease_duration: Duration::from_millis(1500),
    renew_deadline: Duration::from_secs(1),
    retry_period: Duration::from_millis(500),
    failed_get_keeps_lease: false,
    release_reads_first: false,
};

fn ms(ms: u64) -> SimInstant {
    SimInstant::ZERO + Duration::from_millis(ms)
}

fn elector(config: ElectionConfig) -> Elector {
    Elector::new(
        config,
        "ns/lease".into(),
        "ns/me".into(),
        Jitter::Unseeded(0),
    )
}

#[expect(clippy::unnecessary_wraps, reason = "it is what an elector is given")]
/// The Lease as stored: its holder, when it was renewed, and its version.
fn stored(holder: &str, renewed: SimInstant, version: u64) -> Response {
    let record = Record {
        holder: holder.into(),
        acquired: 0,
        renewed: renewed.as_nanos(),
        transitions: 4,
    };
    Ok(Answer::Custom(Rc::new(Custom {
        kind: LEASE,
        name: "ns/lease".into(),
        uid: 1,
        resource_version: version,
        labels: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        annotations: Vec::new(),
        status: None,
        body: record.body(),
        record_count: 1,
    })))
}

#[expect(clippy::unnecessary_wraps, reason = "it is what an elector is given")]
/// What the store answers to a write.
fn accepted(request: Option<Request>, version: u64) -> Response {
    let Some(Request::Replace { object, .. } | Request::Create(object)) = request else {
        panic!("a write is expected, not {request:?}")
    };
    let mut lease = Custom::clone(&object);
    lease.resource_version = version;
    Ok(Answer::Custom(Rc::new(lease)))
}

fn written(request: Option<&Request>) -> (String, u64) {
    let Some(Request::Replace { object, .. }) = request else {
        panic!("a guarded write is expected, not {request:?}")
    };
    (holder_of(object).to_owned(), object.resource_version)
}

fn is_get(reaction: &Reaction) -> bool {
    matches!(reaction.call, Some(Request::Get { .. }))
}

/// A candidate that has just won a released lease at 10 ms with version 8.
fn leader(config: ElectionConfig) -> Elector {
    let mut elector = elector(config);
    assert!(is_get(&elector.start(ms(0))));
    let put = elector.answered(stored("", ms(0), 7), ms(5));
    assert_eq!(written(put.call.as_ref()), ("ns/me".to_owned(), 7));
    let won = elector.answered(accepted(put.call, 8), ms(10));
    assert_eq!(won.news, Some(News::Won(Won::Released)));
    assert!(is_get(&won), "the first renewal starts at once");
    assert_eq!(won.limit, Some(CONFIG.renew_deadline));
    elector
}

#[test]
fn a_missing_lease_is_created_and_a_leader_in_a_pause_releases_it() {
    let mut elector = elector(CONFIG);
    elector.start(ms(0));
    let create = elector.answered(Err(ApiError::NotFound), ms(1));
    assert!(matches!(create.call, Some(Request::Create(_))));
    let won = elector.answered(accepted(create.call, 3), ms(2));
    assert_eq!(won.news, Some(News::Won(Won::Created)));
    let put = elector.answered(stored("ns/me", ms(2), 3), ms(3));
    let pause = elector.answered(accepted(put.call, 4), ms(4));
    assert_eq!(pause.pause, Some(CONFIG.retry_period));
    let release = elector.stop(ms(5));
    assert_eq!(written(release.call.as_ref()), (String::new(), 4));
    let left = elector.answered(accepted(release.call, 5), ms(6));
    assert_eq!(left.news, Some(News::Left(Left::Released)));
}

#[test]
fn unseeded_processes_poll_at_the_first_numbers_of_go() {
    let mut elector = elector(CONFIG);
    let mut now = ms(0);
    elector.start(now);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let renewed = now;
        let reaction = elector.answered(stored("ns/other", renewed, now.as_nanos() + 1), now);
        let pause = reaction.pause.expect("somebody else leads");
        pauses.push((pause.as_micros() + 500) / 1000);
        now += pause;
        assert!(is_get(&elector.woken(now)));
    }
    assert_eq!(pauses, [863, 1064, 899, 763, 755, 912, 539, 594, 558, 681]);
}

#[test]
fn a_record_must_stand_still_for_the_lease_duration_before_own_eyes() {
    let mut elector = elector(CONFIG);
    elector.start(ms(0));
    let other = || stored("ns/other", ms(0), 9);
    assert_eq!(elector.answered(other(), ms(4)).call, None);
    elector.woken(ms(1503));
    let refused = elector.answered(other(), ms(1600));
    assert_eq!(
        refused.call, None,
        "the try began before the record was old enough"
    );
    elector.woken(ms(1504));
    let put = elector.answered(other(), ms(1600));
    assert_eq!(written(put.call.as_ref()), ("ns/me".to_owned(), 9));
    let won = elector.answered(accepted(put.call, 10), ms(1605));
    assert_eq!(won.news, Some(News::Won(Won::Expired)));
}

#[test]
fn renewals_within_one_second_do_not_restart_the_clock_of_the_others() {
    for (renewed, takes_over) in [(ms(900), true), (ms(1100), false)] {
        let mut elector = elector(CONFIG);
        elector.start(ms(300));
        elector.answered(stored("ns/other", ms(300), 9), ms(300));
        elector.woken(ms(1800));
        let reaction = elector.answered(stored("ns/other", renewed, 10), ms(1800));
        assert_eq!(
            reaction.call.is_some(),
            takes_over,
            "renewed at {renewed:?}"
        );
    }
}

#[test]
fn the_lease_of_an_own_predecessor_is_taken_at_once() {
    let mut elector = elector(CONFIG);
    elector.start(ms(0));
    let put = elector.answered(stored("ns/me", ms(0), 7), ms(5));
    let won = elector.answered(accepted(put.call, 8), ms(10));
    assert_eq!(won.news, Some(News::Won(Won::Own)));
}

#[test]
fn a_lost_race_waits_for_the_next_poll() {
    let mut elector = elector(CONFIG);
    elector.start(ms(0));
    elector.answered(stored("", ms(0), 7), ms(5));
    assert!(elector.is_writing());
    let lost = elector.answered(Err(ApiError::Conflict), ms(10));
    assert_eq!(lost.pause.map(|pause| pause.as_millis()), Some(862));
    assert_eq!(elector.stop(ms(20)).news, Some(News::Left(Left::NotHeld)));
}

#[test]
fn a_renewal_canceled_in_its_get_empties_the_lease_and_nothing_is_released() {
    let left = leader(CONFIG).stop(ms(12));
    assert_eq!(
        (left.call, left.news),
        (None, Some(News::Left(Left::EmptyLease)))
    );
    let fixed = ElectionConfig {
        failed_get_keeps_lease: true,
        ..CONFIG
    };
    let release = leader(fixed).stop(ms(12));
    assert_eq!(written(release.call.as_ref()), (String::new(), 8));
}

#[test]
fn a_renewal_canceled_in_its_put_outdates_the_release() {
    let mut elector = leader(CONFIG);
    elector.answered(stored("ns/me", ms(10), 8), ms(12));
    let release = elector.stop(ms(14));
    assert_eq!(
        written(release.call.as_ref()),
        (String::new(), 8),
        "as if it had not committed"
    );
    let left = elector.answered(Err(ApiError::Conflict), ms(18));
    assert_eq!(left.news, Some(News::Left(Left::Outdated)));

    let mut fixed = leader(ElectionConfig {
        release_reads_first: true,
        ..CONFIG
    });
    fixed.answered(stored("ns/me", ms(10), 8), ms(12));
    assert!(is_get(&fixed.stop(ms(14))));
    let release = fixed.answered(stored("ns/me", ms(13), 9), ms(16));
    assert_eq!(written(release.call.as_ref()), (String::new(), 9));
}

#[test]
fn a_leader_that_cannot_renew_in_time_is_deposed_and_releases() {
    let mut elector = leader(CONFIG);
    elector.answered(stored("ns/me", ms(10), 8), ms(12));
    let retry = elector.answered(Err(ApiError::Conflict), ms(14));
    assert_eq!(retry.pause, Some(CONFIG.retry_period));
    assert_eq!(
        elector.limit_passed(7, ms(1010)),
        Reaction::default(),
        "another round"
    );
    let deposed = elector.limit_passed(elector.round(), ms(1010));
    assert_eq!(deposed.news, Some(News::Deposed));
    assert_eq!(written(deposed.call.as_ref()), (String::new(), 8));
}
