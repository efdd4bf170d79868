//! Buffers of one thread, lent for as long as bytes are in them. Idle connections own none.

use std::cell::RefCell;

/// Size of every buffer here: one full TLS record.
pub(crate) const BYTES: usize = 16 * 1024;
/// Buffers kept per thread when nobody uses them; more than these go back to the allocator.
const KEPT_MAX: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BYTES].into_boxed_slice());
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's scratch buffer; inside itself, a fresh one.
pub(crate) fn with_scratch<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => use_it(&mut scratch),
        Err(_) => use_it(&mut vec![0; BYTES]),
    })
}

/// Returns an empty buffer with room for [`BYTES`].
pub(crate) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(BYTES))
}

/// Takes a buffer back.
pub(crate) fn give(mut buffer: Vec<u8>) {
    // A destructor may run after the thread's own storage is gone.
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX && buffer.capacity() >= BYTES {
            buffer.clear();
            kept.push(buffer);
        }
    });
}
