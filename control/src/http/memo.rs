//! What is kept of a request: of most the head, so that the same one again need not be parsed again; of a command its
//! words, until it can be run.
//!
//! What a head means depends on its bytes alone, and clients that ask often (health checks, scrapers, benchmarks) send
//! the same bytes each time. Comparing them is many times cheaper than reading them, and exactly as strict.

use super::request::Request;
use super::target::{MAX_COMMAND, Words};

/// Longest head that is remembered; those of browsers are longer.
const MAX_REMEMBERED: usize = 256;
const _: () = assert!(MAX_COMMAND <= MAX_REMEMBERED);

/// A head that was understood, and what it asks.
#[derive(Clone, Debug)]
pub(super) struct Memo {
    head: [u8; MAX_REMEMBERED],
    len: usize,
    request: Option<Request>,
}

impl Default for Memo {
    fn default() -> Self {
        Self {
            head: [0; MAX_REMEMBERED],
            len: 0,
            request: None,
        }
    }
}

impl Memo {
    /// Remembers a head, if it is short enough.
    pub fn remember(&mut self, head: &[u8], request: Request) {
        self.request = None;
        if let Some(room) = self.head.get_mut(..head.len()) {
            room.copy_from_slice(head);
            self.len = head.len();
            self.request = Some(request);
        }
    }

    /// Keeps the words of a command, instead of a head.
    #[cold]
    pub fn keep_words(&mut self, words: &Words) {
        self.request = None;
        self.len = words.len();
        // Fits, see above.
        if let Some(room) = self.head.get_mut(..words.len()) {
            room.copy_from_slice(words.as_bytes());
        }
    }

    /// The words that were kept.
    pub fn words(&self) -> &str {
        let words = self.head.get(..self.len).unwrap_or_default();
        str::from_utf8(words).unwrap_or_default()
    }

    /// The length of the remembered head and what it asks, if `input` starts with it.
    #[inline]
    pub fn recall(&self, input: &[u8]) -> Option<(usize, Request)> {
        let request = self.request?;
        let (head, start) = (self.head.get(..self.len)?, input.get(..self.len)?);
        // By words: without an operating system, comparing slices goes byte by byte.
        let (words, rest) = head.as_chunks::<8>();
        let (start_words, start_rest) = start.as_chunks::<8>();
        let is_same = words.iter().zip(start_words).all(|(a, b)| a == b)
            && rest.iter().zip(start_rest).all(|(a, b)| a == b);
        is_same.then_some((self.len, request))
    }
}
