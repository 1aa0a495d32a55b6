//! Clones and updates over real HTTP and HTTPS, from a server that sometimes misbehaves.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::{set_timeouts, trust_certificates};
use super::git_server::{GitServer, Repo};
use super::*;

/// Tells a test that it runs as a process of its own, started by [`child`]; holds a source.
const CHILD_SOURCE: &str = "SOURCE_TEST_URL";
/// Where such a process is to fetch to.
const CHILD_DESTINATION: &str = "SOURCE_TEST_DESTINATION";

/// Starts the test `name` of this file in a process of its own.
fn child(name: &str, url: &str, destination: &Path) -> Command {
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("{module}::{name}"), "--nocapture"])
        .env(CHILD_SOURCE, url)
        .env(CHILD_DESTINATION, destination)
        .stdout(Stdio::null());
    command
}

/// Fetches what [`child`] was given; `None` in the process that runs all tests.
fn fetch_as_child() -> Option<Result<Fetched, FetchError>> {
    let url = std::env::var(CHILD_SOURCE).ok()?;
    let destination = PathBuf::from(std::env::var_os(CHILD_DESTINATION)?);
    let spec = SourceSpec {
        location: url,
        base: PathBuf::from("/"),
        reference: GitReference::Unspecified,
    };
    let cancel = AtomicBool::new(false);
    Some(fetch(&spec, &destination, &Silent, &cancel))
}

/// Makes a repository that the servers of `place` serve as `repo`.
fn served(place: &Place) -> Repo {
    Repo::init(place.upstream("repo"), "master")
}

fn http(place: &Place) -> GitServer {
    GitServer::http(place.root.path().join("upstream"))
}

fn https(place: &Place) -> GitServer {
    GitServer::https(place.root.path().join("upstream"))
}

/// Returns text that does not compress, so that a pack has the size that a test needs.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..length).map(next).collect()
}

fn clones_and_updates(server: &GitServer, place: &Place, repo: &Repo) {
    let one = repo.commit("answer", "1");
    repo.branch("main");
    repo.commit("answer", "2");
    repo.checkout("master");
    let url = server.url("repo");
    let first = place.fetch(&url).unwrap();
    check_done(&first, &Action::Cloned);
    assert_eq!(
        first.origin,
        Origin::Git {
            url: url.clone(),
            reference: "master".to_owned(),
            commit: one.clone()
        }
    );
    assert_eq!(place.text("answer").unwrap(), "1");
    check_done(&place.fetch(&url).unwrap(), &Action::Unchanged);
    let three = repo.commit("answer", "3");
    check_done(&place.fetch(&url).unwrap(), &updated(&one, &three));
    assert_eq!(place.text("answer").unwrap(), "3");
}

#[test]
fn http_clone_and_update() {
    let place = Place::new();
    let repo = served(&place);
    clones_and_updates(&http(&place), &place, &repo);
}

#[test]
fn https_clone_and_update_with_a_trusted_certificate() {
    let place = Place::new();
    let repo = served(&place);
    let server = https(&place);
    trust_certificates(&server.ca_file()).unwrap();
    clones_and_updates(&server, &place, &repo);
    assert!(server.url("repo").starts_with("https://"));
}

#[test]
fn untrusted_certificate_is_refused() {
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = https(&place);
    let result = place.fetch(server.url("repo"));
    check_error(result, &["certificate", "not trusted", "SSL_CERT_FILE"]);
    assert!(place.in_ext().is_empty());
    assert!(server.requests().is_empty(), "nothing was asked for");
}

#[test]
fn certificate_for_another_name_is_refused() {
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = https(&place);
    trust_certificates(&server.ca_file()).unwrap();
    let url = server.url("repo").replace("localhost", "127.0.0.1");
    check_error(place.fetch(url), &["not trusted", "does not match"]);
    assert!(place.in_ext().is_empty());
}

#[test]
fn environment_names_the_trusted_certificates() {
    if let Some(result) = fetch_as_child() {
        result.unwrap();
        return;
    }
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = https(&place);
    let name = "environment_names_the_trusted_certificates";
    let url = server.url("repo");
    let mut without = child(name, &url, &place.dest());
    let without = without.stderr(Stdio::null()).status().unwrap();
    assert!(!without.success(), "the server is not trusted by itself");
    let mut with = child(name, &url, &place.dest());
    let with = with
        .env("SSL_CERT_FILE", server.ca_file())
        .status()
        .unwrap();
    assert!(with.success());
    assert_eq!(place.text("answer").unwrap(), "1");
}

#[test]
fn file_without_certificates_cannot_be_trusted() {
    let place = Place::new();
    write(place.upstream("empty.pem"), "nothing");
    let error = trust_certificates(&place.upstream("empty.pem")).unwrap_err();
    assert!(matches!(error, FetchError::Certificates { .. }));
}

#[test]
fn interrupted_clone_leaves_nothing() {
    let place = Place::new();
    let repo = served(&place);
    repo.commit("large", &noise(100_000));
    for server in [http(&place), https(&place)] {
        if server.url("").starts_with("https") {
            trust_certificates(&server.ca_file()).unwrap();
        }
        server.cut_after(50_000);
        let result = place.fetch(server.url("repo"));
        assert!(matches!(result, Err(FetchError::Git { .. })), "{result:?}");
        assert!(place.in_ext().is_empty());
        server.serve();
        place.fetch(server.url("repo")).unwrap();
        fs::remove_dir_all(place.dest()).unwrap();
    }
}

#[test]
fn interrupted_update_keeps_the_old_tree() {
    let place = Place::new();
    let repo = served(&place);
    let server = http(&place);
    let one = repo.commit("large", "1");
    place.fetch(server.url("repo")).unwrap();
    let two = repo.commit("large", &noise(100_000));
    server.cut_after(50_000);
    let kept = place.fetch(server.url("repo")).unwrap();
    check_kept(&kept, &["plugin could not be updated", "fetch from"]);
    assert_eq!(reference_and_commit(&kept), ("master", one.as_str()));
    assert_eq!(place.text("large").unwrap(), "1");
    server.serve();
    let again = place.fetch(server.url("repo")).unwrap();
    check_done(&again, &updated(&one, &two));
}

#[test]
fn failing_server_fails_a_clone_and_keeps_the_old_tree() {
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = http(&place);
    server.fail_with(503);
    check_error(place.fetch(server.url("repo")), &["reach", "503"]);
    assert!(place.in_ext().is_empty());
    check_error(place.fetch(server.url("no-such")), &["reach"]);
    server.serve();
    check_error(place.fetch(server.url("no-such")), &["404"]);
    place.fetch(server.url("repo")).unwrap();
    server.fail_with(500);
    check_kept(&place.fetch(server.url("repo")).unwrap(), &["500"]);
    let url = server.url("repo");
    drop(server);
    check_kept(&place.fetch(url).unwrap(), &["failed to connect"]);
}

#[test]
fn demand_for_credentials_is_an_error_at_once() {
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = http(&place);
    server.require_auth();
    check_error(place.fetch(server.url("repo")), &["asks for credentials"]);
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    let url = server.url("repo").replace("://", "://me:secret@");
    let error = place.fetch(&url).unwrap_err();
    assert!(matches!(error, FetchError::AuthenticationRequired { .. }));
    assert!(!error.chain().contains("secret"), "{error}");
    assert!(server.requests().len() < 5, "{:?}", server.requests());

    server.serve();
    let fetched = place.fetch(&url).unwrap();
    assert!(!format!("{fetched:?}").contains("secret"), "{fetched:?}");
    server.require_auth();
    let kept = place.fetch(&url).unwrap();
    check_kept(&kept, &["asks for credentials"]);
    assert!(!format!("{kept:?}").contains("secret"), "{kept:?}");
}

#[test]
fn submodules_come_over_http_with_relative_urls() {
    let place = Place::new();
    let leaf = Repo::init(place.upstream("leaf"), "master");
    leaf.commit("leaf.txt", "leaf");
    let repo = served(&place);
    repo.commit("answer", "1");
    repo.git(&["submodule", "--quiet", "add", &leaf.file_url(), "leaf"]);
    repo.git(&[
        "config",
        "-f",
        ".gitmodules",
        "submodule.leaf.url",
        "../leaf",
    ]);
    repo.commit_all("add leaf");
    let server = http(&place);
    place.fetch(server.url("repo")).unwrap();
    assert_eq!(place.text("leaf/leaf.txt").unwrap(), "leaf");

    // A foreign repository must not make this machine's files its submodules.
    repo.git(&[
        "config",
        "-f",
        ".gitmodules",
        "submodule.leaf.url",
        &leaf.file_url(),
    ]);
    repo.commit_all("point at a file");
    fs::remove_dir_all(place.dest()).unwrap();
    check_error(place.fetch(server.url("repo")), &["submodule `leaf`"]);
}

#[test]
fn silent_server_does_not_hang_a_fetch() {
    if std::env::var_os(CHILD_SOURCE).is_some() {
        // A process of its own, since timeouts are the same for all its connections.
        set_timeouts(Duration::from_secs(5), Duration::from_millis(200));
        let result = fetch_as_child().unwrap();
        check_error(result, &["timed out"]);
        return;
    }
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = http(&place);
    server.hang();
    let name = "silent_server_does_not_hang_a_fetch";
    let status = child(name, &server.url("repo"), &place.dest()).status();
    assert!(status.unwrap().success());
    assert_eq!(server.requests().len(), 1);
    assert!(place.in_ext().is_empty());
}

#[test]
fn killed_clone_never_counts_as_present() {
    if fetch_as_child().is_some() {
        return;
    }
    let place = Place::new();
    served(&place).commit("answer", "1");
    let server = http(&place);
    server.hang();
    let url = server.url("repo");
    let mut killed = child("killed_clone_never_counts_as_present", &url, &place.dest())
        .spawn()
        .unwrap();
    server.wait_for_requests(1);
    let left = place.in_ext();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with(".plugin.partial-"), "{left:?}");
    // While that process lives, its folder is left alone.
    super::super::staging::recover(&place.dest()).unwrap();
    assert_eq!(place.in_ext(), left);
    killed.kill().unwrap();
    killed.wait().unwrap();

    server.serve();
    check_done(&place.fetch(&url).unwrap(), &Action::Cloned);
    assert_eq!(place.in_ext(), ["plugin"]);
}
