//! Which request calls which skill.

use std::fmt;

use aigis_plugin_api::{CallError, Value, import, skill_type};

use crate::answer::{Answer, Status};
use crate::http::Request;

import! {
    mod greeter {
        fn greet(name: &str) -> Result<String, GreetError>;
    }
    mod site {
        fn page(name: &str, text: &str) -> Result<String, PageError>;
    }
}

/// The error of `greeter.greet`, as far as it is known here.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GreetError {
    Empty,
    TooLong { limit: usize, found: usize },
    Settings { message: String },
}

/// The error of `site.page`, as far as it is known here.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PageError {
    Greeting(GreetError),
    Markdown(MarkdownError),
    Unavailable { message: String },
}

/// The error of a text in a page.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MarkdownError {
    TooLong { limit: usize, found: usize },
}

impl GreetError {
    fn status(&self) -> Status {
        match self {
            Self::Empty => Status::BAD_REQUEST,
            Self::TooLong { .. } => Status::UNPROCESSABLE,
            Self::Settings { .. } => Status::INTERNAL,
        }
    }
}

impl PageError {
    fn status(&self) -> Status {
        match self {
            Self::Greeting(error) => error.status(),
            Self::Markdown(MarkdownError::TooLong { .. }) => Status::TOO_LARGE,
            Self::Unavailable { .. } => Status::UNAVAILABLE,
        }
    }
}

impl fmt::Display for GreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name is needed behind the last slash"),
            Self::TooLong { limit, found } => {
                write!(
                    f,
                    "the name has {found} characters, at most {limit} are allowed"
                )
            }
            Self::Settings { message } => f.write_str(message),
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting(error) => error.fmt(f),
            Self::Markdown(MarkdownError::TooLong { limit, found }) => {
                write!(f, "the text has {found} bytes, at most {limit} are allowed")
            }
            Self::Unavailable { message } => f.write_str(message),
        }
    }
}

const USAGE: &str = "\
GET  /greet/NAME            a greeting
GET  /page/NAME?text=TEXT   a page with a greeting and the Markdown TEXT
POST /call/SKILL            any skill: arguments as a JSON array by position or object by name, the result as JSON
";

/// Answers one request.
pub(crate) fn answer(request: &Request) -> Answer {
    // A page of another site whose name was made to lead here must not call skills through a browser.
    if request
        .host
        .as_deref()
        .is_some_and(|host| !is_this_host(host))
    {
        return Answer::error(
            Status::MISDIRECTED,
            "request",
            "this server is called 127.0.0.1 or localhost",
        );
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", [""]) => Answer::text(USAGE),
        ("GET" | "HEAD", ["greet", name]) => greet(name),
        ("GET" | "HEAD", ["page", name]) => page(name, request),
        ("POST", ["call", skill]) => call(skill, request),
        (_, [""] | ["greet" | "page", _]) => Answer::wrong_method("GET, HEAD"),
        (_, ["call", _]) => Answer::wrong_method("POST"),
        _ => Answer::error(
            Status::NOT_FOUND,
            "request",
            format!("there is no /{}; GET / lists what there is", path.join("/")),
        ),
    }
}

fn is_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost")
}

fn greet(name: &str) -> Answer {
    match greeter::greet(name) {
        Ok(text) => Answer::text(text + "\n"),
        Err(error) => Answer::of_error(&error, GreetError::status),
    }
}

fn page(name: &str, request: &Request) -> Answer {
    let text = request.query.iter().find(|(name, _)| name == "text");
    let text = text.map_or("", |(_, text)| text.as_str());
    match site::page(name, text) {
        Ok(html) => Answer::html(html),
        Err(error) => Answer::of_error(&error, PageError::status),
    }
}

/// Calls any skill, known only by its name: what makes skills available to other languages.
fn call(skill: &str, request: &Request) -> Answer {
    // A browser sends JSON to another site only after asking, which is not granted here.
    let media_type = request
        .content_type
        .as_deref()
        .unwrap_or("")
        .split(';')
        .next();
    if !media_type.is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) {
        return Answer::error(
            Status::WRONG_MEDIA_TYPE,
            "request",
            "the body is JSON: send `Content-Type: application/json`",
        );
    }
    let arguments = match arguments(&request.body) {
        Ok(arguments) => arguments,
        Err(message) => return Answer::error(Status::BAD_REQUEST, "request", message),
    };
    let outcome: Result<Value, CallError<_>> = aigis_plugin_api::call(skill, arguments);
    match outcome {
        Ok(result) => Answer::json(&result),
        Err(error) => Answer::of_dynamic_error(&error),
    }
}

fn arguments(body: &[u8]) -> Result<Value, String> {
    let text = str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Ok(Value::Nil);
    }
    match Value::from_json(text).map_err(|error| format!("the body is not JSON: {error}"))? {
        arguments @ (Value::List(_) | Value::Map(_)) => Ok(arguments),
        other => Err(format!(
            "arguments are an array by position or an object by name, found `{other}`"
        )),
    }
}

#[cfg(test)]
mod tests;
