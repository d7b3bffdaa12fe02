//! What a request asks for: the request line and the fields that matter, as strictly as RFC 9110 and 9112 allow.

use super::access::{Verdict, is_own_origin};
use super::answer::Answer;
use super::body::{Body, MAX_BODY};
use super::refusal::Refusal;
use crate::assets::ASSETS;

/// Most header fields in one head.
pub const MAX_FIELDS: usize = 32;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Page,
    Health,
    Hello,
    Metrics,
    Api,
    Latency,
    ResetLatency,
    /// By its number among [`ASSETS`].
    Asset(u8),
}

impl Resource {
    fn at(path: &[u8]) -> Option<Self> {
        Some(match path {
            b"/hello" => Self::Hello,
            b"/" => Self::Page,
            b"/healthz" => Self::Health,
            b"/metrics" => Self::Metrics,
            b"/api/v1/status" => Self::Api,
            b"/api/v1/latency" => Self::Latency,
            b"/api/v1/latency/reset" => Self::ResetLatency,
            _ => Self::Asset(ASSETS.iter().position(|it| it.path.as_bytes() == path)? as u8),
        })
    }

    /// Whether asking for it changes something: then it wants POST, and somebody who may.
    fn changes(self) -> bool {
        self == Self::ResetLatency
    }

    fn by(self, method: Method) -> Result<Self, Refusal> {
        match (self.changes(), method) {
            (false, Method::Get | Method::Head) | (true, Method::Post) => Ok(self),
            (false, _) => Err(Refusal::MethodNotAllowed),
            (true, _) => Err(Refusal::OnlyPost),
        }
    }
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1: open unless said otherwise.
    Keep,
    /// HTTP/1.0: open, and it must be said.
    KeepAndSay,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Post,
    Options,
    Connect,
    /// Known, and not for us.
    Other,
    Unknown,
}

/// A whole request line.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine {
    resource: Result<Resource, Refusal>,
    is_head: bool,
    is_old: bool,
}

impl RequestLine {
    /// Reads a line without its CR LF.
    ///
    /// # Errors
    ///
    /// What makes the request unintelligible or not to be answered on this connection. A missing resource and a method
    /// that is not allowed are not errors here: the rest of the request can still be followed.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let method_len = line
            .iter()
            .position(|&byte| byte == b' ')
            .ok_or(Refusal::RequestLine)?;
        let version_at = line
            .len()
            .checked_sub(8)
            .filter(|&at| at > method_len + 1)
            .ok_or(Refusal::RequestLine)?;
        if line[version_at - 1] != b' ' {
            return Err(Refusal::RequestLine);
        }
        let target = &line[method_len + 1..version_at - 1];
        let method = match &line[..method_len] {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            b"POST" => Method::Post,
            b"PUT" | b"DELETE" | b"TRACE" | b"PATCH" => Method::Other,
            token if !token.is_empty() && token.iter().all(|&byte| is_token(byte)) => {
                Method::Unknown
            }
            _ => return Err(Refusal::Method),
        };
        let is_old = match line[version_at..].strip_prefix(b"HTTP/") {
            Some([b'1', b'.', b'1'..=b'9']) => false,
            Some(b"1.0") => true,
            Some([b'2'..=b'9', b'.', b'0'..=b'9']) => return Err(Refusal::UnsupportedVersion),
            _ => return Err(Refusal::Version),
        };
        let resource = match (method, Resource::at(target)) {
            (Method::Unknown, _) => return Err(Refusal::UnknownMethod),
            (method, Some(resource)) => resource.by(method),
            (method, None) => look_closer(method, target)?,
        };
        let is_head = method == Method::Head;
        Ok(Self {
            resource,
            is_head,
            is_old,
        })
    }
}

/// Targets that are not simply the path of a resource. The query is ignored; escaped unreserved characters in the path
/// are the characters (RFC 3986 section 2.3), other escapes are a different path.
#[cold]
fn look_closer(method: Method, target: &[u8]) -> Result<Result<Resource, Refusal>, Refusal> {
    if !target.iter().all(|&byte| is_target(byte)) {
        return Err(Refusal::Target);
    }
    match method {
        Method::Connect => return Ok(Err(Refusal::MethodNotAllowed)),
        Method::Options if target == b"*" => return Ok(Err(Refusal::MethodNotAllowed)),
        _ => {}
    }
    let local = match target.split_at_checked(7) {
        _ if target.starts_with(b"/") => target,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"http://") => {
            let len = rest
                .iter()
                .position(|&byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            let (authority, local) = rest.split_at(len);
            if !is_host(authority) {
                return Err(Refusal::Target);
            }
            local
        }
        _ => return Err(Refusal::Target),
    };
    let path = local.split(|&byte| byte == b'?').next().unwrap_or_default();
    // One byte longer than the longest resource, so that a longer path cannot match.
    let mut plain = [0; 32];
    let mut len = 0;
    let mut rest = if path.is_empty() { b"/" } else { path };
    while let Some((&first, after)) = rest.split_first() {
        let mut byte = first;
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>().ok_or(Refusal::Target)?;
            let value = |digit: u8| char::from(digit).to_digit(16).ok_or(Refusal::Target);
            let escaped = (value(digits[0])? * 16 + value(digits[1])?) as u8;
            if is_unreserved(escaped) {
                byte = escaped;
                rest = after;
            }
        }
        if let Some(slot) = plain.get_mut(len) {
            *slot = byte;
            len += 1;
        }
    }
    Ok(match Resource::at(&plain[..len]) {
        None => Err(Refusal::NotFound),
        Some(resource) => resource.by(method),
    })
}

/// A whole head, judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub answer: Answer,
    pub body: Body,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

#[derive(Default)]
struct Fields {
    has_host: bool,
    content_length: Option<u64>,
    is_chunked: bool,
    is_encoded: bool,
    has_unknown_coding: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
    takes_gzip: bool,
    /// Why the request may not change what it asks to change.
    refused: Option<Refusal>,
}

impl Request {
    /// Reads the field lines after `line`, up to and with the empty line. `judge` is asked about the `Authorization`
    /// field, if one is needed.
    ///
    /// # Errors
    ///
    /// Everything after which the connection cannot go on.
    pub fn parse(
        line: RequestLine,
        lines: &[u8],
        judge: impl FnOnce(Option<&[u8]>) -> Verdict,
    ) -> Result<Self, Refusal> {
        let changes = line.resource.is_ok_and(Resource::changes);
        let fields = Fields::parse(lines, changes.then_some(judge))?;
        if !fields.has_host && !line.is_old {
            return Err(Refusal::NoHost);
        }
        let body = fields.body(line.is_old)?;
        // HTTP/1.0 knows no expectations: RFC 9110 section 10.1.1 has them ignored there.
        if fields.expects_other && !line.is_old {
            return Err(Refusal::Expectation);
        }
        let expects_continue =
            fields.expects_continue && !line.is_old && !matches!(body, Body::Done);
        let persistence = match () {
            () if fields.says_close => Persistence::Close,
            () if !line.is_old => Persistence::Keep,
            () if fields.says_keep_alive => Persistence::KeepAndSay,
            () => Persistence::Close,
        };
        let resource = match fields.refused {
            Some(refusal) => Err(refusal),
            None => line.resource,
        };
        match resource {
            // The client may send the body or not, now that it has its answer: nobody knows what the next byte is.
            Err(refusal) if expects_continue => Err(refusal),
            content => {
                let answer = Answer {
                    content,
                    is_head_only: line.is_head,
                    persistence,
                    takes_gzip: fields.takes_gzip,
                    part: 0,
                    held: 0,
                };
                Ok(Self {
                    answer,
                    body,
                    expects_continue,
                })
            }
        }
    }
}

impl Fields {
    fn parse(
        lines: &[u8],
        judge: Option<impl FnOnce(Option<&[u8]>) -> Verdict>,
    ) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let headers = match httparse::parse_headers(lines, &mut headers) {
            Ok(httparse::Status::Complete((len, headers))) if len == lines.len() => headers,
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            _ => return Err(Refusal::Field),
        };
        let mut fields = Self::default();
        for header in headers {
            let name = header.name.as_bytes();
            // The length tells most fields apart without a look at their name.
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => fields.host(header.value)?,
                6 if name.eq_ignore_ascii_case(b"expect") => fields.expect(header.value),
                10 if name.eq_ignore_ascii_case(b"connection") => fields.connection(header.value),
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    fields.content_length(header.value)?
                }
                15 if name.eq_ignore_ascii_case(b"accept-encoding") => {
                    fields.takes_gzip |= takes_gzip(header.value);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    fields.transfer_encoding(header.value)?
                }
                _ => {}
            }
        }
        if let Some(judge) = judge {
            fields.refused = refused(headers, judge);
        }
        Ok(fields)
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.has_host {
            return Err(Refusal::RepeatedHost);
        }
        self.has_host = true;
        if is_host(value) {
            Ok(())
        } else {
            Err(Refusal::Host)
        }
    }

    fn expect(&mut self, value: &[u8]) {
        for item in list(value) {
            if item.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_other = true;
            }
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// One number, once. RFC 9110 section 8.6 also allows to take a repeated equal value as one; refusing is safer.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.content_length.is_some() || value.contains(&b',') {
            return Err(Refusal::RepeatedContentLength);
        }
        if value.is_empty() {
            return Err(Refusal::ContentLength);
        }
        let length = value.iter().try_fold(0u64, |length, &digit| {
            let digit = char::from(digit).to_digit(10)?;
            length.checked_mul(10)?.checked_add(digit.into())
        });
        self.content_length = Some(length.ok_or(Refusal::ContentLength)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.is_encoded = true;
        for coding in list(value) {
            if self.is_chunked || !coding.iter().all(|&byte| is_token(byte)) {
                return Err(Refusal::TransferEncoding);
            }
            self.is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.has_unknown_coding |= !self.is_chunked;
        }
        Ok(())
    }

    /// RFC 9112 section 6.3, refusing wherever it allows to.
    fn body(&self, is_old: bool) -> Result<Body, Refusal> {
        match (self.is_encoded, self.content_length) {
            (true, Some(_)) => Err(Refusal::ContentLengthAndTransferEncoding),
            (true, None) if is_old => Err(Refusal::TransferEncodingInOldVersion),
            (true, None) if self.has_unknown_coding => Err(Refusal::UnknownTransferEncoding),
            (true, None) if self.is_chunked => Ok(Body::chunked()),
            (true, None) => Err(Refusal::TransferEncoding),
            (false, Some(length)) if length > u64::from(MAX_BODY) => Err(Refusal::BodyTooLong),
            (false, Some(length)) => Ok(Body::of_length(length as u32)),
            (false, None) => Ok(Body::Done),
        }
    }
}

/// Whether an `Accept-Encoding` field names gzip, or else everything, with a weight that is not 0. RFC 9110, 12.5.3.
fn takes_gzip(value: &[u8]) -> bool {
    let (mut gzip, mut all) = (None, None);
    for item in list(value) {
        let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let has_weight = |part: &[u8]| part.iter().any(|byte| (b'1'..=b'9').contains(byte));
        let is_taken = Some(parts.all(has_weight));
        match coding {
            b"*" => all = is_taken,
            coding if coding.eq_ignore_ascii_case(b"gzip") => gzip = is_taken,
            _ => {}
        }
    }
    gzip.or(all).unwrap_or(false)
}

/// Why a request that changes something is refused: a page of another site sent it, or nobody who may. One field too many
/// counts as none.
#[cold]
fn refused(
    headers: &[httparse::Header<'_>],
    judge: impl FnOnce(Option<&[u8]>) -> Verdict,
) -> Option<Refusal> {
    let [mut host, mut origin, mut authorization] = [None; 3];
    for header in headers {
        let field = match header.name {
            name if name.eq_ignore_ascii_case("host") => &mut host,
            name if name.eq_ignore_ascii_case("origin") => &mut origin,
            name if name.eq_ignore_ascii_case("authorization") => &mut authorization,
            _ => continue,
        };
        *field = match field {
            None => Some(header.value),
            Some(_) => Some(b"".as_slice()),
        };
    }
    if origin.is_some_and(|origin| !is_own_origin(origin, host)) {
        return Some(Refusal::ForeignOrigin);
    }
    match judge(authorization) {
        Verdict::Allowed => None,
        Verdict::NotConfigured => Some(Refusal::NoToken),
        Verdict::Unknown => Some(Refusal::Unauthorized),
        Verdict::TooOften => Some(Refusal::TooManyGuesses),
    }
}

/// The members of a comma-separated list, without the empty ones (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What RFC 3986 allows in a target, and what browsers leave bare in a query all the same. Bytes beyond ASCII, quotes,
/// angle brackets, backslashes and fragments are refused.
fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'#')
}

/// `uri-host [":" port]` of RFC 9110 section 7.2. An empty host identifies no server (section 4.2.1) and is refused.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = if let Some(rest) = value.strip_prefix(b"[") {
        let len = len_of(rest, |byte| {
            byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
        });
        match rest.split_at(len) {
            (host, [b']', port @ ..]) => (host, port),
            _ => return false,
        }
    } else {
        value.split_at(len_of(value, |byte| IS_REG_NAME[usize::from(byte)]))
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && is_port
}

/// How many bytes at the start of `value` are as `is_wanted` says.
fn len_of(value: &[u8], is_wanted: impl Fn(u8) -> bool) -> usize {
    value
        .iter()
        .position(|&byte| !is_wanted(byte))
        .unwrap_or(value.len())
}

/// The characters of a `reg-name` (RFC 3986 section 3.2.2), as a table because every request has a host.
const IS_REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    let others = b"%!$&'()*+,;=";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_rubbish() {
        for good in [
            "a",
            "10.0.2.15",
            "example.local:80",
            "a:",
            "[fe80::1]",
            "[::ffff:1.2.3.4]:8080",
            "a_b",
            "%41",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a:8x", "a@b", "[]", "[::1", "[g]", "[::1]x", "a:80:80",
            "h\u{e9}", "a?b",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn lists_have_no_empty_members() {
        assert!(list(b" a ,,\tb,").eq([b"a", b"b"]));
        assert_eq!(list(b"").count(), 0);
    }
}
