//! One question to a view, whatever becomes of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fuser::{Errno, INodeNo};
use tracing::error;

use super::errno::{errno, is_due};
use crate::view::{Number, View, ViewError};

/// Asks the view. A number that it cannot know is stale; a panic costs this request and nothing more.
pub(super) fn ask<T>(
    view: &View,
    ino: INodeNo,
    question: impl FnOnce(&View, Number) -> Result<T, ViewError>,
) -> Result<T, Errno> {
    let number = u32::try_from(ino.0).map(Number).map_err(|_| Errno::ESTALE)?;
    let answer = catch_unwind(AssertUnwindSafe(|| question(view, number)));
    match answer {
        Ok(answer) => answer.map_err(|error| errno(&error)),
        Err(panic) => {
            if is_due() {
                let said = said(&*panic);
                error!(inode = number.0, said, "a request handler panicked; please report this");
            }
            Err(Errno::EIO)
        }
    }
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something without words")
}
