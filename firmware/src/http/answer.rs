//! Answers: the small ones as ready-made text, the pages written behind a head of their own length.

use super::out::Out;
use super::refusal::{Code, Refusal};
use super::request::{Persistence, Resource};
use crate::status::{Status, StatusSource};
use crate::{api, latency, metrics, page};

/// Longest answer, head included; the size of a connection's transmit buffer.
pub const MAX_ANSWER: usize = 16 * 1024;
/// Every answer but the pages fits in this.
pub const SMALL_ANSWER: usize = 512;
/// Room for the head of a page.
const PAGE_HEAD: usize = 384;

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

/// What is to be answered, once the request is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub content: Result<Resource, Refusal>,
    /// The body is left out, as HEAD asks.
    pub is_head_only: bool,
    pub persistence: Persistence,
}

impl Answer {
    /// How much room there must be before [`Answer::write`] is worth calling.
    #[inline]
    pub fn room(&self) -> usize {
        match self.content {
            Ok(Resource::Page | Resource::Metrics | Resource::Api | Resource::Latency) => {
                MAX_ANSWER
            }
            Ok(Resource::Hello | Resource::Health | Resource::ResetLatency) | Err(_) => {
                SMALL_ANSWER
            }
        }
    }

    /// Writes the answer at the start of `out`, which holds [`Answer::room`] bytes: its code and length. If a page does
    /// not fit, that is what is answered.
    #[inline]
    pub fn write(&mut self, out: &mut [u8], status: &impl StatusSource) -> (Code, usize) {
        match self.content {
            Ok(Resource::Hello) => (Code::Ok, self.write_ready(out, &HELLO)),
            Ok(Resource::Health) => (Code::Ok, self.write_ready(out, &HEALTH)),
            Ok(Resource::ResetLatency) => (Code::Ok, self.write_ready(out, &DONE)),
            Ok(resource) => {
                let mut written = None;
                status.with_status(&mut |status| written = self.write_page(out, resource, status));
                match written {
                    Some(len) => (Code::Ok, len),
                    None => self.write_refusal(out, Refusal::AnswerTooLong),
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

    #[cold]
    #[inline(never)]
    fn write_page(&self, out: &mut [u8], resource: Resource, status: &Status) -> Option<usize> {
        let out = out.get_mut(..MAX_ANSWER)?;
        let mut body = Out::new(&mut out[PAGE_HEAD..]);
        let fields = match resource {
            Resource::Metrics => {
                metrics::write(&mut body, status);
                latency::prometheus(&mut body, status.latency);
                "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            }
            Resource::Api => {
                api::write(&mut body, status);
                "Content-Type: application/json\r\n"
            }
            Resource::Latency => {
                latency::json(
                    &mut body,
                    status.latency,
                    status.interfaces,
                    status.uptime_us,
                );
                "Content-Type: application/json\r\n"
            }
            Resource::Page | Resource::Hello | Resource::Health | Resource::ResetLatency => {
                page::write(&mut body, status);
                "Content-Type: text/html; charset=utf-8\r\n\
                 Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
            }
        };
        let body_len = body.finish()?;
        let mut head = Out::new(&mut out[..PAGE_HEAD]);
        head.texts(&[
            "HTTP/1.1 200 OK\r\n",
            common_fields!(),
            fields,
            "Cache-Control: no-store\r\nContent-Length: ",
        ]);
        head.decimal(body_len as u64);
        head.texts(&["\r\n", self.connection_field(), "\r\n"]);
        let head_len = head.finish()?;
        if self.is_head_only {
            return Some(head_len);
        }
        out.copy_within(PAGE_HEAD..PAGE_HEAD + body_len, head_len);
        Some(head_len + body_len)
    }

    #[cold]
    #[inline(never)]
    pub fn write_refusal(&mut self, out: &mut [u8], refusal: Refusal) -> (Code, usize) {
        let code = refusal.code();
        if !matches!(code, Code::NotFound | Code::MethodNotAllowed) {
            self.persistence = Persistence::Close;
        }
        let body = [code.text(), ": ", refusal.reason(), "\n"];
        let mut out = Out::new(out);
        out.texts(&[
            "HTTP/1.1 ",
            code.text(),
            "\r\n",
            common_fields!(),
            "Content-Type: text/plain\r\nContent-Length: ",
        ]);
        out.decimal(body.iter().map(|piece| piece.len() as u64).sum());
        let more = match refusal {
            Refusal::MethodNotAllowed => "\r\nAllow: GET, HEAD\r\n",
            Refusal::OnlyPost => "\r\nAllow: POST\r\n",
            Refusal::Unauthorized => "\r\nWWW-Authenticate: Bearer realm=\"ristretto\"\r\n",
            Refusal::TooManyGuesses => "\r\nRetry-After: 1\r\n",
            _ => "\r\n",
        };
        out.texts(&[more, self.connection_field(), "\r\n"]);
        if !self.is_head_only {
            out.texts(&body);
        }
        (code, out.finish().unwrap_or_default())
    }

    fn connection_field(&self) -> &'static str {
        match self.persistence {
            Persistence::Keep => "",
            Persistence::KeepAndSay => "Connection: keep-alive\r\n",
            Persistence::Close => "Connection: close\r\n",
        }
    }
}
