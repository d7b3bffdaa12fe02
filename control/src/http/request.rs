//! What a request asks for: the request line and the fields that matter, as strictly as RFC 9110 and 9112 allow.

use crate::capture;

use super::access::{Verdict, is_own_origin, is_served};
use super::answer::Answer;
use super::body::{Body, MAX_BODY};
use super::refusal::{Code, Refusal};
use super::target::{Target, Words, words};
use crate::assets::ASSETS;
use crate::shell::{self, Access};
use crate::status::StatusSource;

/// Most header fields in one head.
pub const MAX_FIELDS: usize = 32;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Page,
    /// What stands for the page until the token comes.
    Gate,
    Health,
    Hello,
    Metrics,
    Api,
    Latency,
    ResetLatency,
    /// By its number among [`ASSETS`].
    Asset(u8),
    /// The packets that pass, as its query orders them.
    Capture,
    /// A command: what its table entry asks of who may run it; once that was judged, what who asks may do.
    Command(Access),
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
            b"/capture.pcapng" => Self::Capture,
            _ => Self::Asset(ASSETS.iter().position(|it| it.path.as_bytes() == path)? as u8),
        })
    }

    /// What an answer with it says.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Gate => Code::Unauthorized,
            _ => Code::Ok,
        }
    }

    fn by(self, method: Method) -> Result<Self, Refusal> {
        match (self, method) {
            (Self::ResetLatency | Self::Command(_), Method::Post) => Ok(self),
            (Self::ResetLatency | Self::Command(Access::Change), _) => Err(Refusal::OnlyPost),
            (_, Method::Get | Method::Head) => Ok(self),
            // With some operands it may change something.
            (Self::Command(_), _) => Err(Refusal::CommandMethod),
            _ => Err(Refusal::MethodNotAllowed),
        }
    }

    /// Whether nobody has to be asked who wants it.
    #[inline]
    fn is_free(self, source: &dyn StatusSource) -> bool {
        match self {
            Self::Hello | Self::Health | Self::Asset(_) => true,
            Self::Page | Self::Metrics | Self::Api | Self::Latency => source.is_public(),
            Self::ResetLatency | Self::Capture | Self::Command(_) | Self::Gate => false,
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

/// A resource or why there is none, and the target if it was taken apart.
type Sought<'l> = (Result<Resource, Refusal>, Option<Target<'l>>);

/// A whole request line.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'l> {
    resource: Result<Resource, Refusal>,
    target: Option<Target<'l>>,
    is_head: bool,
    is_post: bool,
    is_old: bool,
}

impl<'l> RequestLine<'l> {
    /// Reads a line without its CR LF.
    ///
    /// # Errors
    ///
    /// What makes the request unintelligible or not to be answered on this connection. A missing resource and a method
    /// that is not allowed are not errors here: the rest of the request can still be followed.
    pub fn parse(line: &'l [u8]) -> Result<Self, Refusal> {
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
        let (resource, target) = match (method, Resource::at(target)) {
            (Method::Unknown, _) => return Err(Refusal::UnknownMethod),
            (method, Some(resource)) => (resource.by(method), None),
            (method, None) => look_closer(method, target)?,
        };
        Ok(Self {
            resource,
            target,
            is_head: method == Method::Head,
            is_post: method == Method::Post,
            is_old,
        })
    }

    /// The words of the command that it asks for.
    #[cold]
    pub fn command(&self) -> Result<Option<Words>, Refusal> {
        self.target.map_or(Ok(None), |target| target.command())
    }
}

/// Targets that are not simply the path of a resource: the resource, and whom the target is for. The query matters to
/// commands only.
#[cold]
fn look_closer(method: Method, target: &[u8]) -> Result<Sought<'_>, Refusal> {
    let not_allowed = Ok((Err(Refusal::MethodNotAllowed), None));
    match method {
        Method::Connect if target.iter().all(|&byte| is_target(byte)) => return not_allowed,
        Method::Options if target == b"*" => return not_allowed,
        _ => {}
    }
    let target = Target::parse(target)?;
    // One byte longer than the longest resource, so that a longer path cannot match.
    let mut plain = [0; 32];
    let resource = match Resource::at(target.plain_path(&mut plain)?) {
        Some(resource) => Some(resource),
        None => target
            .command()?
            .and_then(|command| shell::find(words(&command).next()?))
            .map(|command| Resource::Command(command.access)),
    };
    let resource = resource.map_or(Err(Refusal::NotFound), |it| it.by(method));
    Ok((resource, Some(target)))
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
struct Fields<'h> {
    host: Option<&'h [u8]>,
    content_length: Option<u64>,
    is_chunked: bool,
    is_encoded: bool,
    has_unknown_coding: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
    takes_gzip: bool,
}

impl Request {
    /// Reads the field lines after `line`, up to and with the empty line. `source` is asked who we are, and who may what.
    ///
    /// # Errors
    ///
    /// Everything after which the connection cannot go on.
    pub fn parse(
        line: RequestLine,
        lines: &[u8],
        source: &dyn StatusSource,
    ) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let headers = match httparse::parse_headers(lines, &mut headers) {
            Ok(httparse::Status::Complete((len, headers))) if len == lines.len() => headers,
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            _ => return Err(Refusal::Field),
        };
        let fields = Fields::read(headers)?;
        if fields.host.is_none() && !line.is_old {
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
        // What an absolute target says counts more: RFC 9112 section 3.2.2.
        let host = line.target.and_then(|target| target.authority);
        if let Some(host) = host.or(fields.host)
            && !is_served(host, |name| source.is_own_name(name))
        {
            return Err(Refusal::ForeignHost);
        }
        let resource = match line.resource {
            // Ordered and begun in one step: nobody else orders in between.
            Ok(Resource::Capture) if !matches!(body, Body::Done) => {
                Err(Refusal::Capture(capture::Refusal::Query))
            }
            Ok(Resource::Capture) => order_capture(line.target, headers, source),
            Ok(resource) if !resource.is_free(source) => {
                match authorize(resource, line.is_post, headers, source) {
                    // A browser sends no token with an address: a form asks for it.
                    Err(Refusal::Unauthorized) if resource == Resource::Page => Ok(Resource::Gate),
                    judged => judged,
                }
            }
            resource => resource,
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
                    is_begun: false,
                    filled: None,
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

impl<'h> Fields<'h> {
    fn read(headers: &[httparse::Header<'h>]) -> Result<Self, Refusal> {
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
        Ok(fields)
    }

    fn host(&mut self, value: &'h [u8]) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::RepeatedHost);
        }
        self.host = Some(value);
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
#[cold]
#[inline(never)]
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

/// Whether who asks may have a capture, by token or by ticket, and orders it.
#[cold]
fn order_capture(
    target: Option<Target<'_>>,
    headers: &[httparse::Header<'_>],
    source: &dyn StatusSource,
) -> Result<Resource, Refusal> {
    let query = target.map_or(&[][..], |target| target.query);
    let query = str::from_utf8(query).map_err(|_| Refusal::Target)?;
    if !source.admits_to_capture(query) {
        authorize(Resource::Capture, false, headers, source)?;
    }
    source.order_capture(query).map_err(Refusal::Capture)?;
    Ok(Resource::Capture)
}

/// Whether who asks may have the resource, and what they may do if it is a command. A request that changes something is
/// refused if a page of another site sent it. One field too many counts as none.
#[cold]
fn authorize(
    resource: Resource,
    is_post: bool,
    headers: &[httparse::Header<'_>],
    source: &dyn StatusSource,
) -> Result<Resource, Refusal> {
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
    if is_post && origin.is_some_and(|origin| !is_own_origin(origin, host)) {
        return Err(Refusal::ForeignOrigin);
    }
    let is_open = resource == Resource::Command(Access::Read) && !is_post && source.is_public();
    let granted = match source.judge(authorization) {
        Verdict::Allowed if is_post => Access::Change,
        Verdict::Allowed => Access::Admin,
        Verdict::NotConfigured if is_open => Access::Read,
        Verdict::Unknown if is_open && authorization.is_none() => Access::Read,
        Verdict::NotConfigured => return Err(Refusal::NoToken),
        Verdict::Unknown => return Err(Refusal::Unauthorized),
        Verdict::TooOften => return Err(Refusal::TooManyGuesses),
    };
    Ok(match resource {
        Resource::Command(_) => Resource::Command(granted),
        other => other,
    })
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

pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What RFC 3986 allows in a target, and what browsers leave bare in a query all the same. Bytes beyond ASCII, quotes,
/// angle brackets, backslashes and fragments are refused.
pub(super) fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'#')
}

/// `uri-host [":" port]` of RFC 9110 section 7.2. An empty host identifies no server (section 4.2.1) and is refused.
pub(super) fn is_host(value: &[u8]) -> bool {
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
