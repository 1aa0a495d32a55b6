use super::*;

fn request(method: &str, path: &[&str]) -> Request {
    Request {
        method: method.to_owned(),
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        query: Vec::new(),
        host: Some("127.0.0.1:8475".to_owned()),
        content_type: Some("application/json; charset=utf-8".to_owned()),
        body: Vec::new(),
    }
}

fn status(request: &Request) -> u16 {
    answer(request).status.0
}

#[test]
fn addresses_lead_to_skills() {
    assert_eq!(status(&request("GET", &[""])), 200);
    // No core runs around a test: to be unavailable is to have called.
    assert_eq!(status(&request("GET", &["greet", "zaltu"])), 503);
    assert_eq!(status(&request("GET", &["page", "zaltu"])), 503);
    assert_eq!(status(&request("POST", &["call", "greeter.greet"])), 503);
    assert_eq!(status(&request("GET", &["greet", "zaltu", "more"])), 404);
    assert_eq!(status(&request("GET", &["other"])), 404);
}

#[test]
fn a_wrong_method_names_the_right_one() {
    assert_eq!(
        answer(&request("POST", &["greet", "zaltu"])).allow,
        Some("GET, HEAD")
    );
    let answer = answer(&request("OPTIONS", &["call", "greeter.greet"]));
    assert_eq!((answer.status.0, answer.allow), (405, Some("POST")));
}

#[test]
fn only_requests_to_this_host_are_answered() {
    for (host, expected) in [
        (Some("127.0.0.1"), 200),
        (Some("LOCALHOST:8475"), 200),
        (None, 200),
        (Some("a.example:8475"), 421),
        (Some("localhost.a.example"), 421),
    ] {
        let mut request = request("GET", &[""]);
        request.host = host.map(str::to_owned);
        assert_eq!(status(&request), expected, "{host:?}");
    }
}

#[test]
fn calls_need_json() {
    let mut wrong = request("POST", &["call", "a.b"]);
    wrong.content_type = Some("text/plain".to_owned());
    assert_eq!(status(&wrong), 415);
    wrong.content_type = None;
    assert_eq!(status(&wrong), 415);
    for body in ["1", "\"a\"", "null", "[1", "[] []"] {
        let mut wrong = request("POST", &["call", "a.b"]);
        wrong.body = body.into();
        assert_eq!(status(&wrong), 400, "{body}");
    }
    let mut wrong = request("POST", &["call", "a.b"]);
    wrong.body = b"\xff".to_vec();
    assert_eq!(status(&wrong), 400);
}

#[test]
fn arguments_are_by_position_or_by_name() {
    assert_eq!(arguments(b" "), Ok(Value::Nil));
    assert_eq!(
        arguments(b"[\"a\"]"),
        Ok(Value::List(vec![Value::from("a")]))
    );
    let by_name = Value::from_iter([("name", Value::from("a"))]);
    assert_eq!(arguments(b"{\"name\": \"a\"}"), Ok(by_name));
}

#[test]
fn errors_of_skills_have_statuses_of_their_own() {
    let too_long = GreetError::TooLong { limit: 1, found: 2 };
    assert_eq!(PageError::Greeting(too_long).status().0, 422);
    assert_eq!(PageError::Greeting(GreetError::Empty).status().0, 400);
    let too_long = MarkdownError::TooLong { limit: 1, found: 2 };
    assert_eq!(PageError::Markdown(too_long).status().0, 413);
}
