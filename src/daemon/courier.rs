//! Who tells the kernel what flips change.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::debug;

use crate::fuse::Courier;
use crate::machine::courier;

/// A process of its own, started with the first message; where none can be started this process writes itself.
pub(super) fn beside(device: &OwnedFd) -> Option<Courier> {
    let device = device.try_clone().ok()?;
    let started: Mutex<Option<Arc<courier::Courier>>> = Mutex::default();
    let is_refused = AtomicBool::new(false);
    Some(Arc::new(move |message| {
        if is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let known = started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let courier = match known {
            Some(courier) => courier,
            None => match courier::start_beside(device.as_fd()) {
                Ok(courier) => {
                    let courier = Arc::new(courier);
                    started.lock().unwrap_or_else(PoisonError::into_inner).replace(courier.clone());
                    courier
                }
                Err(error) => {
                    debug!(%error, "messages to the kernel are written by the daemon itself");
                    is_refused.store(true, Ordering::Relaxed);
                    return None;
                }
            },
        };
        let said = courier.carry(message);
        if said.is_none() {
            // Somebody has ended it: the next message has another one.
            started.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        said
    }))
}

/// The keeper of a worker.
pub(super) fn of_keeper(courier: courier::Courier) -> Courier {
    Arc::new(move |message| courier.carry(message))
}
