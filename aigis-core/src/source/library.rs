//! The settings that the git library has once per process: timeouts and trusted certificates.

use std::env;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use super::FetchError;
use super::error::GitMessage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Prepares the git library; must run before anything else here touches it.
///
/// Besides the certificates that OpenSSL finds by itself (`SSL_CERT_FILE` and `SSL_CERT_DIR`, read
/// at this moment), it loads those of the system: the OpenSSL that is built in does not know
/// where a distribution keeps them. As everywhere with OpenSSL, each of the two variables replaces
/// the system's file or folder.
pub(super) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        apply_timeouts(CONNECT_TIMEOUT, IDLE_TIMEOUT);
        let unset = |name| env::var_os(name).is_none_or(|value| value.is_empty());
        // What cannot be loaded is not trusted: the connection that needs it will say so.
        if unset(openssl_probe::ENV_CERT_FILE)
            && let Some(file) = openssl_probe::probe().cert_file
        {
            let _ = load_file(&file);
        }
        if unset(openssl_probe::ENV_CERT_DIR) {
            for folder in openssl_probe::candidate_cert_dirs() {
                let _ = load_folder(folder);
            }
        }
    });
}

/// Trusts the certificate authorities in a PEM file, besides those trusted already, for every
/// HTTPS connection that this process makes from now on.
///
/// `SSL_CERT_FILE` does the same for a whole process, but is read only once, at the first fetch.
///
/// # Errors
/// If the file cannot be read or holds no certificate.
pub fn trust_certificates(file: &Path) -> Result<(), FetchError> {
    prepare();
    load_file(file).map_err(|error| FetchError::Certificates {
        path: file.to_owned(),
        source: GitMessage::from(&error).into(),
    })
}

/// Sets how long a server may take to accept a connection (10 s unless set) and to send the next
/// bytes (60 s unless set), for every connection that this process makes from now on.
///
/// Less than a millisecond counts as one: to the git library, zero means to wait for ever.
pub fn set_timeouts(connect: Duration, idle: Duration) {
    prepare();
    apply_timeouts(connect, idle);
}

fn apply_timeouts(connect: Duration, idle: Duration) {
    let milliseconds = |timeout: Duration| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: each sets one aligned C integer that connections read once, when they start; the
    // library itself is initialised behind its own once-guard.
    let set = unsafe {
        git2::opts::set_server_connect_timeout_in_milliseconds(milliseconds(connect).max(1)).and(
            git2::opts::set_server_timeout_in_milliseconds(milliseconds(idle).max(1)),
        )
    };
    debug_assert!(set.is_ok(), "setting a timeout cannot fail");
}

fn load_file(file: &Path) -> Result<(), git2::Error> {
    // SAFETY: adds to the certificate store of the library's one TLS context; OpenSSL guards that
    // store with a lock, so connections on other threads may be using it.
    unsafe { git2::opts::set_ssl_cert_file(file) }
}

fn load_folder(folder: &Path) -> Result<(), git2::Error> {
    // SAFETY: as in `load_file`.
    unsafe { git2::opts::set_ssl_cert_dir(folder) }
}
