//! A private network for a test, and whether this machine has IPv6.

use std::fs;
use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};
use std::process::{Command, Stdio};

use super::{Lines, Process, Scratch, outcome};

/// Whether this machine has IPv6. If not, prints that the test is skipped.
pub fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("skipped: this machine has no IPv6");
    }
    has
}

/// A network namespace: a loopback interface, ports and host names that no other process uses.
/// Processes in it end with the test.
pub struct Network {
    /// Keeps the namespaces alive.
    holder: Process,
    hosts: Scratch,
}

impl Network {
    /// Creates a network with these lines as `/etc/hosts`. If the machine does not allow this,
    /// prints that the test is skipped, and returns `None`.
    pub fn new(hosts: &str) -> Option<Self> {
        let scratch = Scratch::new();
        let file = scratch.file("hosts", hosts.as_bytes());
        let script = r#"ip link set lo up && mount --bind "$0" /etc/hosts && echo ready && exec cat"#;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--mount", "sh", "-c", script]).arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            println!("skipped: unshare(1) is not installed");
            return None;
        };
        let mut holder = Process { child };
        let ready = Lines::of(holder.child.stdout.take().unwrap()).next_or_end();
        if ready.as_deref() != Some("ready") {
            println!("skipped: this machine allows no network namespace");
            return None;
        }
        Some(Network { holder, hosts: scratch })
    }

    /// Replaces `/etc/hosts`.
    pub fn set_hosts(&self, hosts: &str) {
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.hosts.path("hosts"))
            .and_then(|mut file| file.write_all(hosts.as_bytes()))
            .unwrap();
    }

    /// The same command inside this network. Its process id does not change.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--preserve-credentials", "--user", "--net", "--mount", "--target"]);
        inside.arg(self.holder.pid().as_raw_nonzero().to_string());
        inside.arg(command.get_program()).args(command.get_args());
        inside.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
        inside
    }

    /// Runs a shell script in this network.
    pub fn shell(&self, script: &str) {
        let mut command = self.command(Command::new("sh").args(["-c", script]));
        outcome(Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())));
    }

    pub fn disable_ipv6(&self) {
        // If this file does not exist, there is no IPv6 either.
        self.shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    }

    /// Makes the name server silent: packets to its address are dropped.
    pub fn silence_name_server(&self) {
        let file = self.hosts.file("resolv.conf", b"nameserver 192.0.2.1\n");
        let path = file.display();
        self.shell(&format!("ip route add 192.0.2.0/24 dev lo && mount --bind {path} /etc/resolv.conf"));
    }
}
