//! The protocol byte by byte, for what the FUSE library has no call for (`include/uapi/linux/fuse.h`).

/// `FUSE_NOTIFY_INVAL_INODE`.
pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
/// `FUSE_NOTIFY_INVAL_ENTRY`.
pub(super) const NOTIFY_INVAL_ENTRY: i32 = 3;
/// `FUSE_NOTIFY_STORE`.
pub(super) const NOTIFY_STORE: i32 = 4;
/// `FUSE_NOTIFY_RESEND`, Linux 6.9.
pub(super) const NOTIFY_RESEND: i32 = 7;

/// Bytes of the header of a request (`struct fuse_in_header`).
pub(super) const REQUEST_HEADER_BYTES: usize = 40;
/// Bytes of the header of a reply or a notification (`struct fuse_out_header`).
const REPLY_HEADER_BYTES: usize = 16;

/// The part of a request's header that is looked at here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestHeader {
    /// Which operation is asked for (`enum fuse_opcode`).
    pub(super) opcode: u32,
    /// The number of the request, which its reply repeats.
    pub(super) unique: u64,
}

impl RequestHeader {
    /// Reads the header of a message from the kernel; `None` if the message is too short.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let unique = message.get(8..16)?.try_into().ok()?;
        Some(Self { opcode: word(message, 4)?, unique: u64::from_ne_bytes(unique) })
    }
}

/// The 32-bit number at a place in a message; `None` if the message is too short.
pub(super) fn word(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..)?.get(..4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// A reply that is an error, given as a positive number.
pub(super) fn error_reply(unique: u64, errno: i32) -> Vec<u8> {
    message(-errno, unique, &[])
}

/// A message that answers no request.
pub(super) fn notification(code: i32, body: &[u8]) -> Vec<u8> {
    message(code, 0, body)
}

fn message(error: i32, unique: u64, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(REPLY_HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    [&len.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_laid_out_as_the_kernel_reads_and_writes_them() {
        let reply = error_reply(9, libc::EIO);
        assert_eq!(reply.len(), REPLY_HEADER_BYTES);
        assert_eq!(reply[..4], 16_u32.to_ne_bytes());
        assert_eq!(reply[4..8], (-libc::EIO).to_ne_bytes());
        assert_eq!(reply[8..], 9_u64.to_ne_bytes());
        let mut request = vec![0; REQUEST_HEADER_BYTES];
        request[4..8].copy_from_slice(&26_u32.to_ne_bytes());
        request[8..16].copy_from_slice(&9_u64.to_ne_bytes());
        let header = RequestHeader { opcode: 26, unique: 9 };
        assert_eq!(RequestHeader::read(&request), Some(header));
        assert_eq!(RequestHeader::read(&request[..15]), None);
        assert_eq!(word(&request, usize::MAX), None);
    }
}
