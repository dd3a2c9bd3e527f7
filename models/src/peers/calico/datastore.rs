//! The datastore as one Calico process sees it: every read goes to the apiserver by quorum, every
//! write is a compare-and-swap. It knows the calls and their order inside one operation, not why.

use std::rc::Rc;

use crate::cni::IpamStage;
use crate::process::{CallError, Port};
use crate::request::{Answer, ApiError, Consistency, Custom, CustomKind, Request};

use super::Env;
use super::object::{Body, Stored, custom, parse};

/// One process's view.
#[derive(Clone)]
pub(super) struct Datastore {
    pub(super) port: Port,
    pub(super) env: Rc<Env>,
    /// The process holds the host-wide lock.
    pub(super) locked: bool,
}

impl Datastore {
    /// One call: CPU in the plugin, then the API.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, CallError> {
        self.port.stage(IpamStage::Api);
        if self.locked {
            self.env.count(|counters| counters.locked_calls += 1);
        }
        let answer = self.port.call(request).await;
        self.port.stage(IpamStage::Cpu);
        self.port.cpu(self.env.parameters.cpu_call).await;
        answer
    }

    /// GET.
    pub(super) async fn get_plain(
        &self,
        kind: CustomKind,
        name: &Rc<str>,
    ) -> Result<Rc<Custom>, CallError> {
        let request = Request::Get {
            kind,
            name: name.clone(),
            consistency: Consistency::Quorum,
        };
        match self.call(request).await? {
            Answer::Custom(object) => Ok(object),
            _ => Err(CallError::Api(ApiError::NotFound)),
        }
    }

    /// LIST, the whole cluster: one page, below 500 objects.
    pub(super) async fn list(&self, kind: CustomKind) -> Result<Vec<Rc<Custom>>, CallError> {
        let request = Request::List {
            kind,
            selectors: Vec::new(),
            consistency: Consistency::Quorum,
            limit: 0,
            after: None,
        };
        match self.call(request).await? {
            Answer::Customs(objects, _, _) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }

    /// GET; an object that is marked as deleted is deleted, and reported as not there.
    pub(super) async fn get<T: Body>(&self, name: &Rc<str>) -> Result<Stored<T>, CallError> {
        let object = self.get_plain(T::KIND, name).await?;
        let mut stored: Stored<T> = parse(&object);
        if *stored.body.deleted() {
            self.finish_deletion(&object).await?;
            return Err(CallError::Api(ApiError::NotFound));
        }
        Ok(stored)
    }

    /// POST.
    pub(super) async fn create<T: Body>(
        &self,
        name: &Rc<str>,
        body: &T,
    ) -> Result<Stored<T>, CallError> {
        let request = Request::Create(Rc::new(custom(name, body)));
        stored(self.call(request).await?)
    }

    /// PUT, if nobody wrote meanwhile.
    pub(super) async fn update<T: Body>(
        &self,
        old: &Stored<T>,
        body: &T,
    ) -> Result<Stored<T>, CallError> {
        let request = Request::Replace {
            object: Rc::new(Custom {
                uid: old.object.uid,
                resource_version: old.object.resource_version,
                ..custom(&old.object.name, body)
            }),
            part: crate::request::Part::Main,
        };
        stored(self.call(request).await?)
    }

    /// Three calls: the mark (which is the compare-and-swap), a read, the deletion.
    pub(super) async fn delete<T: Body>(&self, old: &Stored<T>) -> Result<(), CallError> {
        let mut marked = old.body.clone();
        *marked.deleted() = true;
        let object = self.update(old, &marked).await?.object;
        self.finish_deletion(&object).await
    }

    /// GET, then DELETE of that very object; that somebody else did it is success.
    async fn finish_deletion(&self, object: &Rc<Custom>) -> Result<(), CallError> {
        match self.get_plain(object.kind, &object.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let request = Request::Delete {
            kind: object.kind,
            name: object.name.clone(),
            uid: Some(object.uid),
            resource_version: None,
        };
        match self.call(request).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

fn stored<T: Body>(answer: Answer) -> Result<Stored<T>, CallError> {
    match answer {
        Answer::Custom(object) => Ok(parse(&object)),
        _ => Err(CallError::Api(ApiError::Invalid)),
    }
}
