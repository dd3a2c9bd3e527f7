//! A pipe for one message to a process. Its reader takes it down with it: what is written to a
//! process that is dead, or has given up, reaches nobody.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::{Port, ProcessId, Shared};

/// What was written and is not read.
struct Slot<T> {
    reader: ProcessId,
    message: RefCell<Option<T>>,
}

/// The end of the process that reads.
pub(crate) struct PipeReader<T> {
    slot: Rc<Slot<T>>,
    port: Port,
}

/// The end that others write to.
pub(crate) struct PipeWriter<T> {
    slot: Weak<Slot<T>>,
    shared: Rc<Shared>,
}

impl Port {
    /// A pipe that this process reads.
    pub(crate) fn pipe<T>(&self) -> (PipeReader<T>, PipeWriter<T>) {
        let slot = Rc::new(Slot {
            reader: self.id,
            message: RefCell::new(None),
        });
        let writer = PipeWriter {
            slot: Rc::downgrade(&slot),
            shared: self.shared.clone(),
        };
        let port = self.clone();
        (PipeReader { slot, port }, writer)
    }
}

impl<T> PipeReader<T> {
    /// Waits for the message.
    pub(crate) async fn read(&self) -> T {
        loop {
            let message = self.slot.message.take();
            match message {
                Some(message) => return message,
                None => self.port.park().await,
            }
        }
    }
}

impl<T> PipeWriter<T> {
    /// Writes the message, and wakes who reads it; from outside of all processes, at the next
    /// [`super::Processes::settle`].
    pub(crate) fn write(&self, message: T) {
        if let Some(slot) = self.slot.upgrade() {
            let unread = slot.message.replace(Some(message));
            assert!(unread.is_none(), "a pipe is for one message");
            self.shared.wakes.borrow_mut().push_back(slot.reader);
        }
    }

    /// Nobody reads anymore.
    pub(crate) fn is_broken(&self) -> bool {
        self.slot.strong_count() == 0
    }
}

impl<T> Clone for PipeWriter<T> {
    fn clone(&self) -> Self {
        Self {
            slot: self.slot.clone(),
            shared: self.shared.clone(),
        }
    }
}
