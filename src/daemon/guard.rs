//! A panic in a thread beside those that answer the kernel costs what it was doing, not all that it would do later.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::error;

use crate::control::ControlError;

/// Does what reads sources. What is half done when it panics is done anew by the next update: nothing of it was published.
pub(super) fn guarded<T>(
    work: impl FnOnce() -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(refused(&*panic)))
}

/// Does what is done again and again; a panic is logged and costs this time only.
pub(super) fn survived(what: &str, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        error!(what, said = said(&*panic), "a thread panicked and goes on; please report this");
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something without words")
}

fn refused(panic: &(dyn Any + Send)) -> ControlError {
    let message = format!("updating panicked: {}", said(panic));
    let cure = "the view stays as it is and is updated again; please report this".to_owned();
    ControlError::Refused { message, cure: Some(cure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_updating_is_an_error_and_the_next_update_works() {
        let mut updates = 0;
        for _ in 0..1000 {
            let outcome: Result<(), _> = guarded(|| {
                updates += 1;
                std::panic::resume_unwind(Box::new("a hostile object".to_owned()))
            });
            let error = outcome.unwrap_err();
            assert_eq!(error.to_string(), "updating panicked: a hostile object");
            assert!(error.cure().is_some());
        }
        assert_eq!(guarded(|| Ok(updates)).unwrap(), 1000);
        survived("fetching", || std::panic::resume_unwind(Box::new("an answer")));
    }
}
