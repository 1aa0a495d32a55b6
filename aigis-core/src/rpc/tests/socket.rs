//! The socket's place.

use super::*;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::rpc::RpcError;
use crate::rpc::session::may_enter;

fn bind(core: &Core, path: &Path) -> Result<Server, RpcError> {
    let service = Arc::clone(&core.service) as Arc<dyn Service>;
    Server::bind(&core.reactor, path, service, CORE_PID)
}

#[test]
fn only_its_user_may_connect() {
    let core = Core::start();
    let metadata = std::fs::metadata(core.server().path()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(may_enter(1000, 1000));
    assert!(may_enter(0, 1000));
    assert!(!may_enter(1001, 1000));
    assert!(!may_enter(1000, 0));
}

#[test]
fn a_home_may_lie_deep() {
    let deep: PathBuf = std::iter::repeat_n("a folder with a long name", 30).collect();
    let core = Core::at(&deep, Limits::default(), THREADS);
    assert!(core.server().path().as_os_str().len() > 700);
    core.assert_alive();
    let path = core.server().path().to_owned();
    core.shut_down(Duration::ZERO);
    assert!(!path.exists());
}

#[test]
fn the_socket_of_a_dead_core_is_replaced() {
    let core = Core::start();
    let path = core.home.join("run/stale.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "closing does not remove it");
    let server = bind(&core, &path).expect("it is replaced");
    assert!(connector::connect(&path).is_ok());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn anything_else_stays_where_it_is() {
    let core = Core::start();
    let path = core.home.join("run/file.sock");
    std::fs::write(&path, "precious").expect("a file");
    let error = bind(&core, &path).expect_err("it is no socket");
    assert!(matches!(&error, RpcError::Occupied { path: found } if *found == path));
    assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let core = Core::start();
    let path = core.home.join("nowhere/core.sock");
    let error = bind(&core, &path).expect_err("there is no folder");
    assert!(matches!(error, RpcError::Bind { .. }), "{error:?}");
}

#[test]
fn several_cores_live_in_one_process() {
    let cores: Vec<Core> = (0..3).map(|_| Core::start()).collect();
    let sessions: Vec<Session> = cores.iter().map(Core::connect).collect();
    cores[0].shut_down(Duration::ZERO);
    assert_eq!(echo(&sessions[1], "one"), "one");
    assert_eq!(echo(&sessions[2], "two"), "two");
}
