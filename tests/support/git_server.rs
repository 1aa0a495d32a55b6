//! A real git server on loopback, for tests: HTTP or HTTPS in front of `git http-backend`,
//! with faults on demand, and [`Repo`], which builds repositories with the real `git`.
//!
//! It needs nothing but `std`, `rustls` (feature `ring`) and `rcgen`, so that unit tests and the
//! integration tests can both include it with `#[path]`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary that includes this file uses another part of it"
)]

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does wrong, until [`GitServer::serve`] is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Status(u16),
    Cut(usize),
    Stall(usize),
    Auth,
    Hang,
}

/// What the threads of one server share.
struct Shared {
    root: PathBuf,
    tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    stopped: bool,
    requests: Vec<String>,
    connections: HashMap<u64, TcpStream>,
    workers: Vec<JoinHandle<()>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until the fault is another one or the server stops.
    fn wait_for_other_than(&self, fault: Fault) {
        let mut state = self.state();
        while state.fault == fault && !state.stopped {
            state = match self.changed.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
    }
}

/// A git server that serves the repositories below a folder; it stops when dropped.
pub struct GitServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
    certificates: Option<PathBuf>,
}

impl GitServer {
    /// Starts a server that speaks plain HTTP and serves the repositories below `root`.
    pub fn http(root: impl Into<PathBuf>) -> Self {
        Self::start(root.into(), None, None)
    }

    /// Starts a server that speaks HTTPS with a certificate for `localhost`, signed by an
    /// authority made for this server alone; see [`GitServer::ca_file`]. It answers at 127.0.0.1
    /// too, which its certificate does not name.
    pub fn https(root: impl Into<PathBuf>) -> Self {
        let folder = unique_folder();
        let (tls, authority) = certificates();
        let file = folder.join("ca.pem");
        fs::write(&file, authority).expect("the test's certificate authority is written");
        Self::start(root.into(), Some(Arc::new(tls)), Some(folder))
    }

    fn start(root: PathBuf, tls: Option<Arc<ServerConfig>>, certificates: Option<PathBuf>) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            root,
            tls,
            state: Mutex::new(State {
                fault: Fault::None,
                stopped: false,
                requests: Vec::new(),
                connections: HashMap::new(),
                workers: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let own = listener.try_clone().expect("a second handle");
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            address,
            listener: own,
            shared,
            acceptor: Some(acceptor),
            certificates,
        }
    }

    /// Returns the URL of the repository at `path` below the root.
    pub fn url(&self, path: &str) -> String {
        let port = self.address.port();
        match self.shared.tls {
            Some(_) => format!("https://localhost:{port}/{path}"),
            None => format!("http://127.0.0.1:{port}/{path}"),
        }
    }

    /// Returns the file with the authority that signed an HTTPS server's certificate.
    ///
    /// # Panics
    /// If this server speaks plain HTTP.
    pub fn ca_file(&self) -> PathBuf {
        self.certificates
            .as_ref()
            .expect("only an HTTPS server has certificates")
            .join("ca.pem")
    }

    /// Answers every request from now on with `status`.
    pub fn fail_with(&self, status: u16) {
        self.set(Fault::Status(status));
    }

    /// Cuts the connection after that many bytes of the body of every answer to a POST, which is
    /// where git sends its objects.
    pub fn cut_after(&self, bytes: usize) {
        self.set(Fault::Cut(bytes));
    }

    /// Sends that many bytes of the body of every answer to a POST, and then nothing more.
    pub fn stall_after(&self, bytes: usize) {
        self.set(Fault::Stall(bytes));
    }

    /// Demands credentials for every request from now on, and accepts none.
    pub fn require_auth(&self) {
        self.set(Fault::Auth);
    }

    /// Reads requests from now on, but never answers.
    pub fn hang(&self) {
        self.set(Fault::Hang);
    }

    /// Ends every fault; requests that hang are dropped.
    pub fn serve(&self) {
        self.set(Fault::None);
    }

    /// Returns the requests received so far, as `GET /repo/info/refs?service=git-upload-pack`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Waits until the server has received at least `count` requests.
    ///
    /// # Panics
    /// If they have not arrived within 30 s.
    pub fn wait_for_requests(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.shared.state();
        while state.requests.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server never saw {count} requests");
            state = match self.shared.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn set(&self, fault: Fault) {
        self.shared.state().fault = fault;
        self.shared.changed.notify_all();
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.stopped = true;
            for connection in state.connections.values() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees that it is to stop; and nobody can connect from here on,
        // not even while a process that another test is just starting has the listener open as well.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let workers = std::mem::take(&mut self.shared.state().workers);
        for worker in workers {
            let _ = worker.join();
        }
        if let Some(folder) = &self.certificates {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (id, stream) in listener.incoming().enumerate() {
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        let id = id as u64;
        state.connections.insert(id, copy);
        let worker = {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || {
                // An error here is the client's end of the connection, or a fault asked for.
                let _ = connection(stream, &shared);
                // Also the copy has to be shut down, or the client would wait for more.
                if let Some(stream) = shared.state().connections.remove(&id) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            })
        };
        state.workers.push(worker);
    }
}

fn connection(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match &shared.tls {
        None => converse(BufReader::new(stream), shared),
        Some(config) => {
            let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            converse(BufReader::new(StreamOwned::new(tls, stream)), shared)
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// Answers the requests of one connection until the client or a fault ends it.
fn converse<S: Read + Write>(mut stream: BufReader<S>, shared: &Shared) -> io::Result<()> {
    while let Some(request) = read_request(&mut stream)? {
        let fault = {
            let mut state = shared.state();
            let query = match request.query.as_str() {
                "" => String::new(),
                query => format!("?{query}"),
            };
            let line = format!("{} {}{query}", request.method, request.path);
            state.requests.push(line);
            state.fault
        };
        shared.changed.notify_all();
        let out = stream.get_mut();
        match fault {
            Fault::Status(status) => {
                // The client closes first: what it says that nobody reads would reset the connection
                // before it has read the answer.
                let answer = format!(
                    "HTTP/1.1 {status} Fault\r\nConnection: close\r\nContent-Length: 6\r\n\r\nfault\n"
                );
                out.write_all(answer.as_bytes())?;
                out.flush()?;
                io::copy(&mut stream, &mut io::sink())?;
                return Ok(());
            }
            Fault::Auth => {
                write!(
                    out,
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\n\
                     Content-Length: 0\r\n\r\n"
                )?;
            }
            Fault::Hang => {
                shared.wait_for_other_than(fault);
                return Ok(());
            }
            Fault::None | Fault::Cut(_) | Fault::Stall(_) => {
                let (head, body) = backend(&shared.root, &request)?;
                write!(out, "{head}Content-Length: {}\r\n\r\n", body.len())?;
                match fault {
                    Fault::Cut(bytes) if request.method == "POST" => {
                        out.write_all(&body[..bytes.min(body.len())])?;
                        out.flush()?;
                        return Ok(());
                    }
                    Fault::Stall(bytes) if request.method == "POST" => {
                        out.write_all(&body[..bytes.min(body.len())])?;
                        out.flush()?;
                        shared.wait_for_other_than(fault);
                        return Ok(());
                    }
                    _ => out.write_all(&body)?,
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Reads one request with its whole body, plain or chunked; `None` is the end of the connection.
fn read_request<S: Read + Write>(stream: &mut BufReader<S>) -> io::Result<Option<Request>> {
    let line = read_line(stream)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HashMap::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    if headers
        .get("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    {
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
    let mut body = Vec::new();
    if headers
        .get("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !read_line(stream)?.is_empty() {}
                break;
            }
            stream.by_ref().take(size).read_to_end(&mut body)?;
            read_line(stream)?;
        }
    } else if let Some(length) = headers.get("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        stream.by_ref().take(length).read_to_end(&mut body)?;
    }
    Ok(Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    }))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// Runs `git http-backend` and returns the head of the answer, without its length, and the body.
fn backend(root: &Path, request: &Request) -> io::Result<(String, Vec<u8>)> {
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let mut child = git(root)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().expect("the input is a pipe");
    // The backend may answer before it has read everything: both ends must move.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = input.write_all(&request.body);
        });
        child.wait_with_output()
    })?;
    let (head, body) = split_head(&output.stdout);
    let mut status = "200 OK".to_owned();
    let mut fields = String::new();
    for line in String::from_utf8_lossy(head).lines() {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("status") => {
                status = value.trim().to_owned();
            }
            Some(_) => fields = format!("{fields}{line}\r\n"),
            None => {}
        }
    }
    Ok((format!("HTTP/1.1 {status}\r\n{fields}"), body.to_vec()))
}

fn split_head(output: &[u8]) -> (&[u8], &[u8]) {
    match output.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(end) => (&output[..end], &output[end + 4..]),
        None => (output, &[]),
    }
}

/// Makes an authority of its own and a certificate for `localhost` signed by it; returns the
/// server's side and the authority as PEM.
fn certificates() -> (ServerConfig, String) {
    let mut authority = CertificateParams::default();
    // A name of its own: clients that trust several authorities find them by name.
    let name = format!("test authority {}", unique_number());
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate().expect("a key is made");
    let authority_pem = authority
        .self_signed(&authority_key)
        .expect("the authority signs itself")
        .pem();
    let issuer = Issuer::new(authority, authority_key);

    // Another address than the server's, so that a client can meet a name that does not match.
    let names = vec!["localhost".to_owned(), "127.0.0.2".to_owned()];
    let mut server = CertificateParams::new(names).expect("the names are valid");
    server
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate().expect("a key is made");
    let certificate = server
        .signed_by(&server_key, &issuer)
        .expect("the authority signs the certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
    (config, authority_pem)
}

fn unique_number() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

fn unique_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("git-server-{}", unique_number()));
    // A folder of that name belongs to an ended process that had the same id.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
    folder
}

/// Returns a `git` that sees nothing of the configuration of the user or the machine.
fn git(home: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "A Tester")
        .env("GIT_AUTHOR_EMAIL", "tester@example.invalid")
        .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_COMMITTER_NAME", "A Tester")
        .env("GIT_COMMITTER_EMAIL", "tester@example.invalid")
        .env("GIT_COMMITTER_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_CONFIG_COUNT", "4")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "gc.auto")
        .env("GIT_CONFIG_VALUE_1", "0")
        .env("GIT_CONFIG_KEY_2", "core.fsync")
        .env("GIT_CONFIG_VALUE_2", "none")
        .env("GIT_CONFIG_KEY_3", "protocol.file.allow")
        .env("GIT_CONFIG_VALUE_3", "always");
    command
}

/// A repository with a work tree, built with the real `git`.
pub struct Repo {
    path: PathBuf,
}

impl Repo {
    /// Makes an empty repository at `path` whose first commit will start the branch `branch`.
    pub fn init(path: impl Into<PathBuf>, branch: &str) -> Self {
        let path = path.into();
        fs::create_dir_all(&path).expect("the folder for the repository is made");
        let repo = Self { path };
        repo.git(&["init", "--quiet", "--initial-branch", branch]);
        repo
    }

    /// Returns the folder of the work tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the `file://` URL of this repository.
    pub fn file_url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Writes `file`, making folders as needed, commits everything and returns the commit's id.
    pub fn commit(&self, file: &str, content: &str) -> String {
        let path = self.path.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("the folder for the file is made");
        }
        fs::write(path, content).expect("the file is written");
        self.commit_all(&format!("write {file}"))
    }

    /// Commits everything that changed in the work tree and returns the commit's id.
    pub fn commit_all(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    /// Returns the id of the commit that is checked out.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Starts the branch `name` at the current commit and checks it out.
    pub fn branch(&self, name: &str) {
        self.git(&["checkout", "--quiet", "-b", name]);
    }

    /// Checks out `name`.
    pub fn checkout(&self, name: &str) {
        self.git(&["checkout", "--quiet", name]);
    }

    /// Puts a plain tag on the current commit.
    pub fn tag(&self, name: &str) {
        self.git(&["tag", "--force", name]);
    }

    /// Puts an annotated tag on the current commit.
    pub fn annotated_tag(&self, name: &str) {
        self.git(&["tag", "--force", "--annotate", "--message", name, name]);
    }

    /// Puts the objects of a pack into the repository, one file each.
    ///
    /// # Panics
    /// If the pack cannot be read, or git fails.
    pub fn unpack(&self, pack: &Path) {
        let status = git(&self.path)
            .arg("-C")
            .arg(&self.path)
            .args(["unpack-objects", "-q"])
            .stdin(fs::File::open(pack).expect("the pack is there"))
            .status()
            .expect("git is installed");
        assert!(status.success(), "git could not unpack {}", pack.display());
    }

    /// Runs `git` with `arguments` in this repository and returns what it printed.
    ///
    /// # Panics
    /// If git fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = git(&self.path)
            .arg("-C")
            .arg(&self.path)
            .args(arguments)
            .output()
            .expect("git is installed");
        assert!(
            output.status.success(),
            "git {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
