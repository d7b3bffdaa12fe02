//! What the page consists of besides itself: a style sheet and scripts, compressed when the image is built.
//!
//! The sources are in `control/assets`, `build.rs` packs them. The image holds them compressed only; who does not take
//! that is served what [`inflate`](Asset::inflate) makes of them, straight into the answer.

mod inflate;

use crate::http::MAX_ANSWER;

/// One file.
pub struct Asset {
    /// Where it is. It changes with the content.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub kind: &'static str,
    /// Length in bytes, unpacked.
    pub len: usize,
    /// Its bytes as gzip has them (RFC 1952).
    pub gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Bytes before the compressed ones, as long as no name and nothing else optional is among them.
const GZIP_HEAD: usize = 10;

// Each goes out in one piece.
const _: () = {
    let mut at = 0;
    while at < ASSETS.len() {
        assert!(ASSETS[at].len <= MAX_ANSWER - 1024);
        at += 1;
    }
};

impl Asset {
    /// The one at this path.
    pub fn at(path: &[u8]) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.path.as_bytes() == path)
    }

    /// Unpacks it; its length.
    pub fn inflate(&self, out: &mut [u8]) -> Option<usize> {
        inflate::inflate(self.gzip.get(GZIP_HEAD..)?, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let sources = [
            include_str!(concat!(env!("OUT_DIR"), "/page.css.txt")),
            include_str!(concat!(env!("OUT_DIR"), "/draw.js.txt")),
            include_str!(concat!(env!("OUT_DIR"), "/tools.js.txt")),
            include_str!(concat!(env!("OUT_DIR"), "/page.js.txt")),
        ];
        let mut out = [0; MAX_ANSWER];
        let mut packed = 0;
        for (asset, source) in ASSETS.iter().zip(sources) {
            let len = asset.inflate(&mut out).unwrap();
            assert_eq!(str::from_utf8(&out[..len]), Ok(source), "{}", asset.path);
            assert_eq!(len, asset.len);
            assert_eq!(asset.inflate(&mut out[..len - 1]), None);
            packed += asset.gzip.len();
        }
        assert!(packed < 30 << 10, "{packed} bytes");
        assert!(Asset::at(SCRIPT.as_bytes()).is_some() && Asset::at(b"/assets/page.js").is_none());
    }

    #[test]
    fn damage_is_noticed_or_harmless() {
        let good = &ASSETS[0].gzip[GZIP_HEAD..];
        let mut out = [0; MAX_ANSWER];
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            inflate::inflate(&bad, &mut out);
            inflate::inflate(&good[..at], &mut out);
        }
    }
}
