//! Flow control of what the server receives.

/// How much a client may still send, on one stream or on the whole connection.
///
/// Invariant: `left` and `released` together are at most `full`; the rest is held by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveWindow {
    full: u32,
    /// What the client may send.
    left: u32,
    /// What it may send too and was not told yet.
    released: u32,
}

impl ReceiveWindow {
    pub(super) fn new(full: u32) -> Self {
        Self {
            full,
            left: full,
            released: 0,
        }
    }

    /// Counts bytes that arrived. Returns whether the client was allowed to send them.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Counts bytes that are worked off. Returns what to tell the client: nothing until it is worth a frame.
    pub(super) fn release(&mut self, bytes: u32) -> Option<u32> {
        self.released += bytes;
        if self.released < self.full / 2 {
            return None;
        }
        self.left += self.released;
        Some(std::mem::take(&mut self.released))
    }
}

#[cfg(test)]
mod tests {
    use super::ReceiveWindow;

    #[test]
    fn client_is_told_in_large_steps_and_held_to_what_it_was_told() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.take(60));
        assert!(!window.take(41));
        assert_eq!(window.release(49), None);
        assert!(!window.take(41), "what it was not told it may not send");
        assert_eq!(window.release(11), Some(60));
        assert!(window.take(100));
        assert!(!window.take(1));
    }
}
