//! A network namespace per test.
//!
//! # Guarantees
//!
//! * A namespace is held by file descriptor only, so the kernel takes it away, with every link in
//!   it, when the guard is dropped, when the test panics and when it is killed: nothing can be left
//!   over. `nsenter --net=PATH` with [`NetNs::path`] looks inside of a live one.
//! * No test ever changes the namespace of its own thread: work runs on a thread made for it.
//! * A new namespace is quiet: no duplicate address detection, no router solicitations.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

/// Sysctls of every namespace: nothing speaks unless the test makes it speak.
const QUIET: &[(&str, &str)] = &[
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.autoconf", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
];

/// A network namespace that lives as long as this guard.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    file: File,
}

impl NetNs {
    /// Makes a namespace with its loopback up. `role` is for messages; the name is made unique.
    ///
    /// # Errors
    ///
    /// If the process may not make namespaces (not root).
    pub fn new(role: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{role}-{}-{number}", std::process::id());
        let open = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let file = on_thread(&name, open)
            .with_context(|| format!("making network namespace {name} (needs root)"))?;
        let ns = Self { name, file };
        for (key, value) in QUIET {
            ns.sysctl(key, value)?;
        }
        ns.set_up("lo")?;
        Ok(ns)
    }

    /// Returns the unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a path that other processes can open to enter the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` inside of the namespace, on a thread of its own, and waits for it. A panic inside
    /// goes on outside. Sockets that it opens stay in the namespace wherever they are used.
    ///
    /// # Panics
    ///
    /// If `work` does, or if the namespace cannot be entered.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        on_thread(&self.name, || {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters its own namespace");
            work()
        })
    }

    /// Returns a command that will run inside of the namespace. The process is killed when the
    /// thread that spawned it ends, so nothing outlives a test.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let namespace = self.file.as_raw_fd();
        let parent = std::process::id();
        let enter = move || {
            // SAFETY: the descriptor is open in the parent, and so in the child until it execs.
            let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if nix::unistd::getppid().as_raw().unsigned_abs() == parent {
                Ok(())
            } else {
                Err(io::Error::other(
                    "the test ended while it started a process",
                ))
            }
        };
        // SAFETY: the closure makes system calls only; it allocates on its last error path alone,
        // where the child ends anyway.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Writes a sysctl; `key` with dots, as `sysctl -w` takes it.
    ///
    /// # Errors
    ///
    /// If the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.run(|| std::fs::write(&path, value))
            .with_context(|| format!("setting {key} to {value} in {}", self.name))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_thread<R: Send>(name: &str, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        let handle = thread
            .spawn_scoped(scope, work)
            .expect("the machine can start a thread");
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
