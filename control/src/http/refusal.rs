//! Status codes, and every reason for which a request is refused.

/// The status codes this server sends as final answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 9110 section 15")]
pub enum Code {
    Ok,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    ExpectationFailed,
    MisdirectedRequest,
    TooManyRequests,
    RequestHeaderFieldsTooLarge,
    InternalServerError,
    NotImplemented,
    ServiceUnavailable,
    GatewayTimeout,
    VersionNotSupported,
}

impl Code {
    /// All of them, in numerical order.
    pub const ALL: [Self; 18] = [
        Self::Ok,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::ContentTooLarge,
        Self::UriTooLong,
        Self::ExpectationFailed,
        Self::MisdirectedRequest,
        Self::TooManyRequests,
        Self::RequestHeaderFieldsTooLarge,
        Self::InternalServerError,
        Self::NotImplemented,
        Self::ServiceUnavailable,
        Self::GatewayTimeout,
        Self::VersionNotSupported,
    ];

    /// Number and phrase, as in a status line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UriTooLong => "414 URI Too Long",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::MisdirectedRequest => "421 Misdirected Request",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::GatewayTimeout => "504 Gateway Timeout",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// The three digits.
    pub fn number(self) -> &'static str {
        &self.text()[..3]
    }
}

/// How many answers went out, by status code.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerCounters([u64; Code::ALL.len()]);

impl AnswerCounters {
    /// Counts one answer.
    pub fn count(&mut self, code: Code) {
        self.0[code as usize] += 1;
    }

    /// How many answers carried `code`.
    pub fn get(&self, code: Code) -> u64 {
        self.0[code as usize]
    }
}

/// Why a request gets no 200. The words of [`Refusal::reason`] are sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    BareCarriageReturn,
    BareLineFeed,
    ControlCharacter,
    LeadingSpace,
    RequestLine,
    Method,
    Version,
    Target,
    Field,
    NoHost,
    RepeatedHost,
    Host,
    ContentLength,
    RepeatedContentLength,
    ContentLengthAndTransferEncoding,
    TransferEncoding,
    TransferEncodingInOldVersion,
    Chunk,
    Trailer,
    Incomplete,
    NotFound,
    MethodNotAllowed,
    OnlyPost,
    CommandMethod,
    NoToken,
    ForeignOrigin,
    Unauthorized,
    TooManyGuesses,
    ForeignHost,
    Timeout,
    BodyTooLong,
    RequestLineTooLong,
    CommandTooLong,
    Expectation,
    HeadTooLong,
    TooManyFields,
    AnswerTooLong,
    UnknownMethod,
    UnknownTransferEncoding,
    Busy,
    CommandTooSlow,
    UnsupportedVersion,
}

impl Refusal {
    pub const fn code(self) -> Code {
        match self {
            Self::BareCarriageReturn
            | Self::BareLineFeed
            | Self::ControlCharacter
            | Self::LeadingSpace
            | Self::RequestLine
            | Self::Method
            | Self::Version
            | Self::Target
            | Self::Field
            | Self::NoHost
            | Self::RepeatedHost
            | Self::Host
            | Self::ContentLength
            | Self::RepeatedContentLength
            | Self::ContentLengthAndTransferEncoding
            | Self::TransferEncoding
            | Self::TransferEncodingInOldVersion
            | Self::Chunk
            | Self::Trailer
            | Self::Incomplete => Code::BadRequest,
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed | Self::OnlyPost | Self::CommandMethod => Code::MethodNotAllowed,
            Self::NoToken | Self::ForeignOrigin => Code::Forbidden,
            Self::Unauthorized => Code::Unauthorized,
            Self::TooManyGuesses => Code::TooManyRequests,
            Self::ForeignHost => Code::MisdirectedRequest,
            Self::Timeout => Code::RequestTimeout,
            Self::BodyTooLong => Code::ContentTooLarge,
            Self::RequestLineTooLong | Self::CommandTooLong => Code::UriTooLong,
            Self::Expectation => Code::ExpectationFailed,
            Self::HeadTooLong | Self::TooManyFields => Code::RequestHeaderFieldsTooLarge,
            Self::AnswerTooLong => Code::InternalServerError,
            Self::UnknownMethod | Self::UnknownTransferEncoding => Code::NotImplemented,
            Self::Busy => Code::ServiceUnavailable,
            Self::CommandTooSlow => Code::GatewayTimeout,
            Self::UnsupportedVersion => Code::VersionNotSupported,
        }
    }

    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareCarriageReturn => "a carriage return without a line feed",
            Self::BareLineFeed => "a line feed without a carriage return",
            Self::ControlCharacter => "a control character",
            Self::LeadingSpace => "a line starts with white space",
            Self::RequestLine => "the first line is not METHOD TARGET HTTP/1.1",
            Self::Method => "the method is not a token",
            Self::Version => "the version is not HTTP/1.1 or HTTP/1.0",
            Self::Target => "the request target is malformed",
            Self::Field => "a header field is malformed",
            Self::NoHost => "no Host field",
            Self::RepeatedHost => "more than one Host field",
            Self::Host => "the Host field is malformed",
            Self::ContentLength => "Content-Length is not a number",
            Self::RepeatedContentLength => "more than one Content-Length",
            Self::ContentLengthAndTransferEncoding => "both Content-Length and Transfer-Encoding",
            Self::TransferEncoding => "Transfer-Encoding does not end in one chunked",
            Self::TransferEncodingInOldVersion => "Transfer-Encoding in HTTP/1.0",
            Self::Chunk => "a chunk is malformed",
            Self::Trailer => "a trailer field is malformed",
            Self::Incomplete => "the request ends early",
            Self::NotFound => "nothing is here; try / or /api/v1/",
            Self::MethodNotAllowed => "only GET and HEAD",
            Self::OnlyPost => "only POST",
            Self::CommandMethod => "only GET, HEAD and POST",
            Self::NoToken => "nobody may: there is no admin= in the bootargs",
            Self::ForeignOrigin => "sent by the page of another site",
            Self::Unauthorized => "this needs the token of admin=, as a bearer token",
            Self::TooManyGuesses => "too many wrong tokens lately",
            Self::ForeignHost => "the Host field names another machine",
            Self::Timeout => "the request took too long to arrive",
            Self::BodyTooLong => "the body is longer than 65536 bytes",
            Self::RequestLineTooLong => "the request line is longer than 4096 bytes",
            Self::CommandTooLong => "the command is longer than 248 bytes",
            Self::Expectation => "only 100-continue can be expected",
            Self::HeadTooLong => "the head is longer than 6144 bytes",
            Self::TooManyFields => "more than 32 header fields",
            Self::AnswerTooLong => "the answer does not fit its buffer",
            Self::UnknownMethod => "an unknown method",
            Self::UnknownTransferEncoding => "a transfer coding other than chunked",
            Self::Busy => "other commands are being run",
            Self::CommandTooSlow => "the command took longer than 30 s, and was ended",
            Self::UnsupportedVersion => "HTTP/1.1 is spoken here",
        }
    }
}
