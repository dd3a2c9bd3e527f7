//! A look at all blocks, by one quorum list, for the steps that need it. Blocks are not watched: a
//! survey is as old as its list, and every write on its strength is guarded.

use std::collections::BTreeMap;

use super::{Controller, Purpose};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, ListQuery};
use crate::core::objects::{AddressBlock, Kind, Object, SetAside};

/// All blocks as of one quorum list.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) blocks: BTreeMap<String, AddressBlock>,
    /// Those that cannot be read: full, held by others, never written.
    pub(super) unread: BTreeMap<String, SetAside>,
}

impl Survey {
    /// Whether some block of the pool cannot be read.
    pub(super) fn hides_some_of(&self, pool: &str) -> bool {
        self.unread.values().any(|block| {
            let by_name = block.block_place().is_some_and(|(of, _)| of == pool);
            by_name || block.hint("pool") == Some(pool)
        })
    }
}

impl Controller {
    pub(super) fn take_survey(&mut self) {
        self.surveying = Survey::default();
        self.survey_page(String::new());
    }

    fn survey_page(&mut self, continue_token: String) {
        let query = ListQuery {
            selection: Self::selection(Kind::AddressBlock),
            consistency: Consistency::Quorum,
            limit: self.config.list_page,
            continue_token,
        };
        self.begin_step(Purpose::Survey, ApiRequest::List(query));
    }

    pub(super) fn survey_answered(&mut self, result: Result<ApiReply, ApiError>) {
        match result {
            Ok(ApiReply::Page(page)) => {
                for item in page.items {
                    let name = item.metadata().name.clone();
                    match item {
                        Object::AddressBlock(block) => {
                            self.surveying.blocks.insert(name, *block);
                        }
                        Object::SetAside(block) => {
                            self.surveying.unread.insert(name, *block);
                        }
                        _ => {}
                    }
                }
                if page.continue_token.is_empty() {
                    self.progress_at = self.now;
                    let survey = std::mem::take(&mut self.surveying);
                    self.blocks_surveyed(&survey.unread);
                    self.survey = Some(survey);
                } else {
                    self.survey_page(page.continue_token);
                }
            }
            Ok(_) => {}
            Err(error) => self.pause(&error),
        }
    }
}
