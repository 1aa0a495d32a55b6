//! What a result or an error looks like in HTTP.

use std::fmt;

use aigis_plugin_api::{CallError, SkillFailure, Value};

/// A status code with its standard phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) &'static str);

impl Status {
    pub(crate) const OK: Self = Self(200, "OK");
    pub(crate) const BAD_REQUEST: Self = Self(400, "Bad Request");
    pub(crate) const NOT_FOUND: Self = Self(404, "Not Found");
    pub(crate) const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    pub(crate) const TOO_LARGE: Self = Self(413, "Content Too Large");
    pub(crate) const WRONG_MEDIA_TYPE: Self = Self(415, "Unsupported Media Type");
    pub(crate) const MISDIRECTED: Self = Self(421, "Misdirected Request");
    pub(crate) const UNPROCESSABLE: Self = Self(422, "Unprocessable Content");
    pub(crate) const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    pub(crate) const INTERNAL: Self = Self(500, "Internal Server Error");
    pub(crate) const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    pub(crate) const BAD_GATEWAY: Self = Self(502, "Bad Gateway");
    pub(crate) const UNAVAILABLE: Self = Self(503, "Service Unavailable");
    pub(crate) const TIMED_OUT: Self = Self(504, "Gateway Timeout");
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
    /// The methods that would be right, behind a wrong one.
    pub(crate) allow: Option<&'static str>,
}

impl Answer {
    fn new(status: Status, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
            allow: None,
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::new(Status::OK, "text/plain; charset=utf-8", text.into())
    }

    pub(crate) fn html(html: String) -> Self {
        Self::new(Status::OK, "text/html; charset=utf-8", html)
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::new(Status::OK, "application/json", value.to_json())
    }

    /// Makes the answer to what has gone wrong: `{"error": {"kind": …, "message": …}}`.
    pub(crate) fn error(status: Status, kind: &str, message: impl Into<String>) -> Self {
        Self::detailed(status, kind, message, [])
    }

    fn detailed(
        status: Status,
        kind: &str,
        message: impl Into<String>,
        details: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Self {
        let facts = [
            ("kind", Value::from(kind)),
            ("message", Value::from(message.into())),
        ];
        let error: Value = facts.into_iter().chain(details).collect();
        let body = Value::from_iter([("error", error)]);
        Self::new(status, "application/json", body.to_json())
    }

    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        Self {
            allow: Some(allowed),
            ..Self::error(
                Status::METHOD_NOT_ALLOWED,
                "request",
                format!("this address takes {allowed}"),
            )
        }
    }

    /// Makes the answer to a call with types; the author's error has the status that `status_of` gives it.
    pub(crate) fn of_error<E: fmt::Display>(
        error: &CallError<E>,
        status_of: impl FnOnce(&E) -> Status,
    ) -> Self {
        match error {
            CallError::Skill(author) => Self::error(status_of(author), "skill", author.to_string()),
            CallError::Failed(failure) => Self::of_failure(failure),
            other => {
                let (status, kind) = status_and_kind(other);
                Self::error(status, kind, other.to_string())
            }
        }
    }

    /// Makes the answer to a call without types: the author's error with its type and content.
    pub(crate) fn of_dynamic_error(error: &CallError<SkillFailure>) -> Self {
        match error {
            CallError::Skill(failure) | CallError::Failed(failure) => Self::of_failure(failure),
            other => Self::of_error(other, |_| Status::UNPROCESSABLE),
        }
    }

    fn of_failure(failure: &SkillFailure) -> Self {
        let causes: Value = failure
            .chain
            .iter()
            .map(|cause| Value::from(cause.as_str()))
            .collect();
        let details = [
            ("type", Value::from(failure.type_name.as_str())),
            ("payload", failure.payload().unwrap_or_default()),
            ("causes", causes),
        ];
        Self::detailed(
            Status::UNPROCESSABLE,
            "skill",
            failure.message.as_str(),
            details,
        )
    }
}

/// Maps what is not the author's error.
fn status_and_kind<E>(error: &CallError<E>) -> (Status, &'static str) {
    match error {
        CallError::NotFound { .. } => (Status::NOT_FOUND, "not_found"),
        CallError::Arguments { .. } => (Status::BAD_REQUEST, "arguments"),
        CallError::Panicked { .. } => (Status::INTERNAL, "panicked"),
        CallError::Mismatch { .. } => (Status::BAD_GATEWAY, "mismatch"),
        CallError::Unserializable { .. } => (Status::BAD_GATEWAY, "unserializable"),
        CallError::TimedOut { .. } => (Status::TIMED_OUT, "timed_out"),
        CallError::NotConnected { .. } => (Status::UNAVAILABLE, "not_connected"),
        CallError::CoreGone { .. } => (Status::UNAVAILABLE, "core_gone"),
        CallError::Disconnected { .. } => (Status::UNAVAILABLE, "disconnected"),
        CallError::Unavailable { .. } => (Status::UNAVAILABLE, "unavailable"),
        CallError::Overloaded { .. } => (Status::UNAVAILABLE, "overloaded"),
        _ => (Status::INTERNAL, "other"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(error: CallError<&str>) -> u16 {
        Answer::of_error(&error, |_| Status::UNPROCESSABLE).status.0
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let skill = || "a.b".to_owned();
        let message = || "why".to_owned();
        assert_eq!(status(CallError::Skill("no")), 422);
        let (nearest, location) = (Vec::new(), None);
        assert_eq!(
            status(CallError::NotFound {
                skill: skill(),
                nearest
            }),
            404
        );
        assert_eq!(
            status(CallError::Arguments {
                skill: skill(),
                message: message()
            }),
            400
        );
        let panicked = CallError::Panicked {
            skill: skill(),
            message: message(),
            location,
        };
        assert_eq!(status(panicked), 500);
        let after = Duration::from_secs(60);
        assert_eq!(
            status(CallError::TimedOut {
                skill: skill(),
                after
            }),
            504
        );
        assert_eq!(status(CallError::NotConnected { message: message() }), 503);
        assert_eq!(
            status(CallError::CoreGone {
                skill: skill(),
                message: message()
            }),
            503
        );
        assert_eq!(
            status(CallError::Disconnected {
                skill: skill(),
                message: message()
            }),
            503
        );
        assert_eq!(
            status(CallError::Unavailable {
                skill: skill(),
                message: message()
            }),
            503
        );
        assert_eq!(
            status(CallError::Overloaded {
                skill: skill(),
                message: message()
            }),
            503
        );
        assert_eq!(status(CallError::Cancelled { skill: skill() }), 500);
    }

    #[test]
    fn an_error_is_json() {
        let answer = Answer::error(Status::BAD_REQUEST, "request", "a \"quote\"");
        assert_eq!(
            answer.body,
            r#"{"error":{"kind":"request","message":"a \"quote\""}}"#
        );
    }
}
