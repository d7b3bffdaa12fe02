//! Answers: the small ones as ready-made text, the pages written behind a head of their own length.

use super::out::{Out, Written};
use super::refusal::{Code, Refusal};
use super::request::{Persistence, Resource};
use crate::shell::errand::Ending;
use crate::shell::{self, Access, Form};
use crate::status::{Status, StatusSource};
use crate::{api, assets, latency, metrics, page};
use core::ops::Range;

/// Most of an answer that is written at once, head included; the size of a connection's transmit buffer. What is longer
/// goes out piece by piece.
pub const MAX_ANSWER: usize = 16 * 1024;
/// Room for which the next piece of a long page waits. Each [part](Out::part) of a page fits in it.
const PIECE: usize = MAX_ANSWER / 2;
/// Before a piece: its length in four hexadecimal digits, CR LF. RFC 9112, 7.1.
const CHUNK_HEAD: usize = 6;
/// After a piece, and after the last one.
const CHUNK_END: &str = "\r\n";
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";
/// So much of a page is written in one step, before its next part begins: frames wait for no more.
const STEP: usize = 512;
/// Every answer but the pages fits in this.
pub const SMALL_ANSWER: usize = 512;
/// Room for the head of a page.
const PAGE_HEAD: usize = 640;
/// A field that ends a head's first part: who keeps the answer, and for how long.
const NO_STORE: &str = "\r\nCache-Control: no-store\r\n";
const FOR_EVER: &str =
    "\r\nCache-Control: public, max-age=31536000, immutable\r\nVary: Accept-Encoding\r\n";

/// The line with which a client that waits for it is told to send its body.
pub(super) const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

macro_rules! common_fields {
    () => {
        concat!(
            "Server: ristretto/",
            env!("CARGO_PKG_VERSION"),
            "\r\nX-Content-Type-Options: nosniff\r\n"
        )
    };
}

/// An answer that is known when the image is built.
struct Ready {
    /// The whole answer to a GET that leaves the connection open.
    whole: &'static str,
    /// Length of the status line and the fields in it, without the empty line.
    head_len: usize,
}

macro_rules! ready {
    ($head:literal, $body:literal) => {
        Ready {
            whole: concat!(
                "HTTP/1.1 200 OK\r\n",
                common_fields!(),
                $head,
                "\r\n",
                $body
            ),
            head_len: concat!("HTTP/1.1 200 OK\r\n", common_fields!(), $head).len(),
        }
    };
}

const HELLO: Ready = ready!(
    "Content-Type: text/plain\r\nContent-Length: 13\r\n",
    "Hello, world!"
);
const HEALTH: Ready = ready!(
    "Content-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: 3\r\n",
    "ok\n"
);
const DONE: Ready = ready!(
    "Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: 14\r\n",
    "{\"done\":true}\n"
);

const JSON: &str = "application/json";
const ALLOW_POST: &str = "Allow: POST\r\n";
const AUTHENTICATE: &str = "WWW-Authenticate: Bearer realm=\"ristretto\"\r\n";

/// What is to be answered, once the request is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub content: Result<Resource, Refusal>,
    /// The body is left out, as HEAD asks.
    pub is_head_only: bool,
    pub persistence: Persistence,
    /// Who asks takes what is compressed.
    pub takes_gzip: bool,
    /// Of a page that is being written: the part it goes on with.
    pub part: u16,
    /// Its head is out.
    pub is_begun: bool,
    /// While a page is being written: bytes of it that stand in the buffer already.
    pub filled: Option<u16>,
    /// Bytes of the request that are done with once the page is whole.
    pub held: u16,
}

impl Answer {
    /// How much room there must be before [`Answer::write`] is worth calling.
    #[inline]
    pub fn room(&self) -> usize {
        match self.content {
            Ok(Resource::Hello | Resource::Health | Resource::ResetLatency | Resource::Capture)
            | Err(_) => SMALL_ANSWER,
            Ok(_) if self.is_begun => PIECE,
            Ok(_) => MAX_ANSWER,
        }
    }

    /// Writes the answer at the start of `out`, which holds [`Answer::room`] bytes: its code and length. After that,
    /// [`Answer::filled`] tells whether it is to be called again with this buffer as it is, and [`Answer::part`] whether it
    /// goes on. If a page cannot be written at all, that is what is answered.
    #[inline]
    pub fn write(&mut self, out: &mut [u8], status: &impl StatusSource) -> (Code, usize) {
        match self.content {
            Ok(Resource::Hello) => (Code::Ok, self.write_ready(out, &HELLO)),
            Ok(Resource::Health) => (Code::Ok, self.write_ready(out, &HEALTH)),
            Ok(Resource::ResetLatency) => (Code::Ok, self.write_ready(out, &DONE)),
            Ok(Resource::Capture) => (
                Code::Ok,
                self.write_stream_head(out, "application/x-pcapng"),
            ),
            Ok(resource) => {
                let mut written = None;
                let goes_on = self.is_begun;
                status.with_status(&mut |status| {
                    written = match goes_on {
                        false => self.write_page(out, resource, status),
                        true => self.write_piece(out, resource, status),
                    }
                });
                match written {
                    Some(len) => (resource.code(), len),
                    None if goes_on => {
                        // Too late for another code: a page without its end is known to be none.
                        (self.part, self.persistence) = (0, Persistence::Close);
                        (Code::Ok, 0)
                    }
                    None => {
                        self.part = 0;
                        self.write_refusal(out, Refusal::AnswerTooLong)
                    }
                }
            }
            Err(refusal) => self.write_refusal(out, refusal),
        }
    }

    #[inline]
    fn write_ready(&self, out: &mut [u8], ready: &Ready) -> usize {
        let mut out = Out::new(out);
        if self.persistence == Persistence::Keep && !self.is_head_only {
            out.text(ready.whole);
        } else {
            let (head, rest) = ready.whole.split_at(ready.head_len);
            out.texts(&[
                head,
                self.connection_field(),
                if self.is_head_only { "\r\n" } else { rest },
            ]);
        }
        out.finish().unwrap_or_default()
    }

    /// Writes the page if it fits, else its begin.
    #[cold]
    #[inline(never)]
    fn write_page(&mut self, out: &mut [u8], resource: Resource, status: &Status) -> Option<usize> {
        let out = out.get_mut(..MAX_ANSWER)?;
        let written = self.write_content(&mut out[PAGE_HEAD..], resource, status);
        if self.filled.is_some() {
            return Some(0);
        }
        let (kind, keep, more) = match resource {
            Resource::Metrics => ("text/plain; version=0.0.4; charset=utf-8", NO_STORE, ""),
            Resource::Api | Resource::Latency => ("application/json", NO_STORE, ""),
            Resource::Asset(number) => {
                let more = if self.takes_gzip {
                    "Content-Encoding: gzip\r\n"
                } else {
                    ""
                };
                (
                    assets::ASSETS.get(usize::from(number))?.kind,
                    FOR_EVER,
                    more,
                )
            }
            _ => ("text/html; charset=utf-8", NO_STORE, page::POLICY),
        };
        let mut head = Out::new(&mut out[..PAGE_HEAD]);
        head.texts(&[
            "HTTP/1.1 ",
            resource.code().text(),
            "\r\n",
            common_fields!(),
            "Content-Type: ",
            kind,
            keep,
            more,
            match resource {
                Resource::Gate => AUTHENTICATE,
                _ => "",
            },
        ]);
        let (len, part) = match written {
            Written::Whole(len) => {
                head.text("Content-Length: ");
                head.decimal(len as u64);
                head.text("\r\n");
                (len, 0)
            }
            Written::UpTo(len, part) => {
                match self.persistence {
                    Persistence::Keep => head.text("Transfer-Encoding: chunked\r\n"),
                    // HTTP/1.0 knows no chunks: the page ends with the connection.
                    _ => self.persistence = Persistence::Close,
                }
                (len, part)
            }
            Written::Paused(..) | Written::Nothing => return None,
        };
        head.texts(&[self.connection_field(), "\r\n"]);
        let head_len = head.finish()?;
        self.part = part;
        if self.is_head_only {
            self.part = 0;
            return Some(head_len);
        }
        self.is_begun = true;
        let body = match part {
            0 => PAGE_HEAD + CHUNK_HEAD..PAGE_HEAD + CHUNK_HEAD + len,
            _ => self.frame(out, PAGE_HEAD, len, CHUNK_END),
        };
        let whole = head_len + body.len();
        move_down(out, body, head_len);
        Some(whole)
    }

    /// Writes as much as fits of the rest of a page.
    #[cold]
    #[inline(never)]
    fn write_piece(
        &mut self,
        out: &mut [u8],
        resource: Resource,
        status: &Status,
    ) -> Option<usize> {
        let (len, part, end) = match self.write_content(out, resource, status) {
            // An empty chunk is the last one by itself.
            Written::Whole(0) => (0, 0, CHUNK_END),
            Written::Whole(len) => (len, 0, LAST_CHUNK),
            Written::UpTo(len, part) => (len, part, CHUNK_END),
            Written::Paused(..) => return Some(0),
            Written::Nothing => return None,
        };
        self.part = part;
        let piece = self.frame(out, 0, len, end);
        let whole = piece.len();
        move_down(out, piece, 0);
        Some(whole)
    }

    /// Writes the head of an answer of unknown length.
    #[cold]
    fn write_stream_head(&mut self, out: &mut [u8], content_type: &str) -> usize {
        let coding = match self.persistence {
            Persistence::Keep => "Transfer-Encoding: chunked\r\n",
            // As above; and a client of HTTP/1.1 that wants it closed needs no chunks either.
            _ => {
                self.persistence = Persistence::Close;
                ""
            }
        };
        let mut out = Out::new(out);
        out.texts(&[
            "HTTP/1.1 200 OK\r\n",
            common_fields!(),
            "Cache-Control: no-store\r\nContent-Type: ",
            content_type,
            "\r\n",
            coding,
            self.connection_field(),
            "\r\n",
        ]);
        out.finish().unwrap_or_default()
    }

    /// Writes what `fill` has of it: how many bytes, and whether that was the end.
    #[cold]
    pub fn write_stream(
        &self,
        out: &mut [u8],
        fill: &mut dyn FnMut(&mut [u8]) -> Option<usize>,
    ) -> (usize, bool) {
        let chunked = self.persistence == Persistence::Keep;
        // Four digits tell the length of a chunk.
        let end = out.len().min(0xffff).saturating_sub(LAST_CHUNK.len());
        let Some(room) = out.get_mut(CHUNK_HEAD..end).filter(|room| !room.is_empty()) else {
            return (0, false);
        };
        let (len, tail) = match fill(room) {
            // An empty chunk would be the last one.
            Some(0) => return (0, false),
            Some(len) => (len.min(room.len()), CHUNK_END),
            None if !chunked => return (0, true),
            None => (0, CHUNK_END),
        };
        let piece = self.frame(out, 0, len, tail);
        let whole = piece.len();
        // A chunk stands at the begin already.
        if piece.start > 0 {
            out.copy_within(piece, 0);
        }
        (whole, len == 0)
    }

    /// Makes a chunk of a piece that [`Answer::write_content`] wrote at `at`, if this connection has chunks. Where it now stands.
    fn frame(&self, out: &mut [u8], at: usize, len: usize, end: &str) -> Range<usize> {
        let start = at + CHUNK_HEAD;
        if self.persistence != Persistence::Keep {
            return start..start + len;
        }
        for (digit, place) in out[at..at + 4].iter_mut().enumerate() {
            let value = len >> (12 - 4 * digit) & 15;
            *place = b"0123456789abcdef"[value];
        }
        out[at + 4..start].copy_from_slice(b"\r\n");
        out[start + len..start + len + end.len()].copy_from_slice(end.as_bytes());
        at..start + len + end.len()
    }

    #[cold]
    #[inline(never)]
    pub fn write_refusal(&mut self, out: &mut [u8], refusal: Refusal) -> (Code, usize) {
        let code = refusal.code();
        if !matches!(code, Code::NotFound | Code::MethodNotAllowed) {
            self.persistence = Persistence::Close;
        }
        let body = ["{\"error\":\"", refusal.reason(), "\"}\n"];
        let more = match refusal {
            Refusal::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Refusal::OnlyPost => ALLOW_POST,
            Refusal::CommandMethod => "Allow: GET, HEAD, POST\r\n",
            Refusal::Unauthorized => AUTHENTICATE,
            Refusal::TooManyGuesses | Refusal::Busy => "Retry-After: 1\r\n",
            _ => "",
        };
        (code, self.write_json(out, code, more, &body))
    }

    /// Writes what became of a command. `granted` is what who asked for it may do.
    #[cold]
    #[inline(never)]
    pub fn write_ending(
        &mut self,
        out: &mut [u8],
        ending: Ending,
        granted: Access,
        is_token: bool,
        result: &[u8],
    ) -> (Code, usize) {
        use shell::Refusal::*;
        let mut content_type = JSON;
        let (code, more) = match ending {
            Ending::Done(Form::Begun) => (Code::Accepted, ""),
            Ending::Done(form) => {
                content_type = match form {
                    Form::Lines => "text/plain; charset=utf-8",
                    Form::Xml => "application/xml",
                    _ => JSON,
                };
                (Code::Ok, "")
            }
            Ending::Refused(Conflict(_)) => (Code::Conflict, ""),
            Ending::Busy => return self.write_refusal(out, Refusal::Busy),
            Ending::TooSlow => return self.write_refusal(out, Refusal::CommandTooSlow),
            Ending::Refused(Usage(_)) => (Code::BadRequest, ""),
            Ending::Refused(Unknown | Absent(_)) => (Code::NotFound, ""),
            Ending::Refused(Denied(_)) if granted == Access::Admin => {
                (Code::MethodNotAllowed, ALLOW_POST)
            }
            Ending::Refused(Denied(_)) if is_token => (Code::Unauthorized, AUTHENTICATE),
            Ending::Refused(Denied(_) | Forbidden(_)) => (Code::Forbidden, ""),
            Ending::Refused(_) => (Code::InternalServerError, ""),
        };
        let result = str::from_utf8(result).unwrap_or_default();
        let written = self.write_body(out, code, content_type, more, &[result]);
        (code, written)
    }

    /// Writes an answer of this body, with `more` fields.
    fn write_json(&self, out: &mut [u8], code: Code, more: &str, body: &[&str]) -> usize {
        self.write_body(out, code, JSON, more, body)
    }

    /// The same of another type.
    fn write_body(
        &self,
        out: &mut [u8],
        code: Code,
        content_type: &str,
        more: &str,
        body: &[&str],
    ) -> usize {
        let mut out = Out::new(out);
        out.texts(&[
            "HTTP/1.1 ",
            code.text(),
            "\r\n",
            common_fields!(),
            "Content-Type: ",
            content_type,
            "\r\nCache-Control: no-store\r\n",
            more,
            self.connection_field(),
            "Content-Length: ",
        ]);
        out.decimal(body.iter().map(|piece| piece.len() as u64).sum());
        out.text("\r\n\r\n");
        if !self.is_head_only {
            out.texts(body);
        }
        out.finish().unwrap_or_default()
    }

    fn connection_field(&self) -> &'static str {
        match self.persistence {
            Persistence::Keep => "",
            Persistence::KeepAndSay => "Connection: keep-alive\r\n",
            Persistence::Close => "Connection: close\r\n",
        }
    }

    /// Writes a page from a part on, with room left on both sides for what makes a chunk of it.
    fn write_content(&mut self, out: &mut [u8], resource: Resource, status: &Status) -> Written {
        let end = out.len().saturating_sub(LAST_CHUNK.len());
        let Some(room) = out.get_mut(CHUNK_HEAD..end) else {
            return Written::Nothing;
        };
        let filled = usize::from(self.filled.take().unwrap_or(0));
        let mut body = Out::from_part(room, filled, self.part, STEP);
        match resource {
            Resource::Metrics => {
                metrics::write(&mut body, status);
                latency::prometheus(&mut body, status.latency);
            }
            Resource::Api => api::write(&mut body, status),
            Resource::Latency => latency::json(
                &mut body,
                status.latency,
                status.interfaces,
                status.uptime_us,
            ),
            Resource::Asset(number) => {
                if let Some(asset) = assets::ASSETS.get(usize::from(number)) {
                    match self.takes_gzip {
                        true => body.bytes(asset.gzip),
                        false => body.fill(&mut |room| asset.inflate(room)),
                    }
                }
            }
            Resource::Gate => page::write_gate(&mut body),
            _ => page::write(&mut body, status),
        }
        let written = body.finish_parts();
        if let Written::Paused(len, part) = written {
            (self.filled, self.part) = (Some(len as u16), part);
        }
        written
    }
}

/// Moves what is in a range to an earlier place. `copy_within` takes three instructions for a byte: the core library was
/// compiled not to load a word from just anywhere.
fn move_down(out: &mut [u8], from: Range<usize>, to: usize) {
    let mut done = 0;
    while from.start + done + 32 <= from.end
        && let Some(words) = out[from.start + done..].first_chunk::<32>().copied()
        && let Some(place) = out[to + done..].first_chunk_mut()
    {
        *place = words;
        done += 32;
    }
    out.copy_within(from.start + done..from.end, to + done);
}
