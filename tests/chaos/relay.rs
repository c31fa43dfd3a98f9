//! The unreliable wire: a relay between the real client and the real server that cuts at any
//! byte, resets, half-closes, stalls one direction, drops everything silently, throttles.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How long a read may block before the relay checks for other events.
const TICK: Duration = Duration::from_millis(5);

/// An unusable connection is reset after this time, unless it is closed earlier.
const USELESS: Duration = Duration::from_secs(8);

/// A fault of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Both ends see EOF.
    Close = 1,
    /// Both ends see a reset; data in flight is lost.
    Reset,
    /// One end sees EOF, the other direction continues.
    HalfClose,
    /// One direction is no longer read.
    Stall,
    /// Both ends stay open, but nothing gets through.
    BlackHole,
    /// A trickle for a while; then it continues normally.
    Throttle,
    /// A trickle forever.
    Slow,
}

const FAULTS: [(Fault, u32); 6] = [
    (Fault::Close, 25),
    (Fault::Reset, 40),
    (Fault::HalfClose, 15),
    (Fault::Stall, 5),
    (Fault::BlackHole, 5),
    (Fault::Throttle, 10),
];

/// When connections break.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The total number of faults, except throttling.
    pub cuts: usize,
    /// About this many bytes pass between two of them.
    pub every: usize,
    /// Including stalls and black holes, which the ends take their keepalive timeout to notice.
    pub silent: bool,
}

pub struct Relay {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    plan: Mutex<Option<(Plan, StdRng)>>,
    /// Weak, so that a wire is closed once its two threads have ended.
    wires: Mutex<Vec<Weak<Wire>>>,
    cuts: AtomicUsize,
    connections: AtomicUsize,
    refuse: AtomicBool,
    ended: AtomicBool,
}

struct Wire {
    /// The client's side and the server's.
    ends: [TcpStream; 2],
    /// The state of each direction; 0 for no fault.
    state: [AtomicU8; 2],
    dead: AtomicBool,
    /// Bytes until the next fault, its kind, and the direction that counts them.
    next: Mutex<Option<(usize, Fault, usize)>>,
    useless: Mutex<Option<Instant>>,
}

impl Relay {
    /// In front of the server on `target`; transparent until there is a plan.
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            target,
            plan: Mutex::default(),
            wires: Mutex::default(),
            cuts: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            refuse: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let relay = Self {
            port,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            while !shared.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((near, _)) => shared.connect(near),
                    Err(_) => thread::sleep(TICK),
                }
            }
        });
        relay
    }

    /// From now on, connections break according to this plan, including existing ones.
    pub fn begin(&self, plan: Plan, seed: u64) {
        *self.shared.plan.lock().unwrap() = Some((plan, StdRng::seed_from_u64(seed)));
        for wire in self.shared.wires() {
            *wire.next.lock().unwrap() = self.shared.draw();
        }
    }

    /// From now on nothing breaks any more.
    pub fn calm(&self) {
        *self.shared.plan.lock().unwrap() = None;
        for wire in self.shared.wires() {
            *wire.next.lock().unwrap() = None;
        }
    }

    /// Breaks every open connection, now. `direction` is 0 for what the client sends.
    pub fn strike(&self, fault: Fault, direction: usize) {
        for wire in self.shared.wires() {
            wire.strike(fault, direction);
        }
    }

    /// New connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::Relaxed);
    }

    /// Faults so far.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for wire in self.shared.wires() {
            wire.dead.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn wires(&self) -> Vec<Arc<Wire>> {
        let wires = self.wires.lock().unwrap();
        wires.iter().filter_map(Weak::upgrade).collect()
    }

    /// The next fault of a connection.
    fn draw(&self) -> Option<(usize, Fault, usize)> {
        let mut plan = self.plan.lock().unwrap();
        let (plan, random) = plan.as_mut()?;
        if self.cuts.load(Ordering::Relaxed) >= plan.cuts {
            return None;
        }
        let after = random.random_range(0..plan.every * 2);
        let direction = random.random_range(0..2);
        let mut lot = random.random_range(0..100);
        let (fault, _) = FAULTS.into_iter().find(|(_, share)| {
            let hit = lot < *share;
            lot = lot.wrapping_sub(*share);
            hit
        })?;
        let fault = match fault {
            Fault::Stall | Fault::BlackHole if !plan.silent => Fault::Reset,
            fault => fault,
        };
        Some((after, fault, direction))
    }

    fn connect(self: &Arc<Self>, near: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.refuse.load(Ordering::Relaxed) {
            return;
        }
        // A server that is down is one that disconnects.
        let Ok(far) = TcpStream::connect(("127.0.0.1", self.target)) else {
            return;
        };
        for end in [&near, &far] {
            end.set_nonblocking(false).unwrap();
            end.set_nodelay(true).unwrap();
            end.set_read_timeout(Some(TICK)).unwrap();
            end.set_write_timeout(Some(TICK)).unwrap();
        }
        let wire = Arc::new(Wire {
            ends: [near, far],
            state: Default::default(),
            dead: AtomicBool::new(false),
            next: Mutex::new(self.draw()),
            useless: Mutex::default(),
        });
        let mut wires = self.wires.lock().unwrap();
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(&wire));
        drop(wires);
        for direction in 0..2 {
            let (shared, wire) = (Arc::clone(self), Arc::clone(&wire));
            thread::spawn(move || wire.pump(direction, &shared));
        }
    }
}

impl Wire {
    fn strike(&self, fault: Fault, direction: usize) {
        let both = matches!(fault, Fault::BlackHole | Fault::Throttle | Fault::Slow);
        for at in 0..2 {
            if both || at == direction {
                self.state[at].store(fault as u8, Ordering::Relaxed);
            }
        }
        *self.useless.lock().unwrap() = Some(Instant::now());
        match fault {
            Fault::Reset => {
                for end in &self.ends {
                    let _gone = SockRef::from(end).set_linger(Some(Duration::ZERO));
                }
                self.dead.store(true, Ordering::Relaxed);
            }
            Fault::Close => {
                for end in &self.ends {
                    let _gone = end.shutdown(Shutdown::Both);
                }
                self.dead.store(true, Ordering::Relaxed);
            }
            Fault::HalfClose => drop(self.ends[1 - direction].shutdown(Shutdown::Write)),
            Fault::Stall | Fault::BlackHole | Fault::Throttle | Fault::Slow => {}
        }
    }

    /// Forwards data from end `direction` to the other.
    fn pump(&self, direction: usize, shared: &Shared) {
        let (mut from, to) = (&self.ends[direction], &self.ends[1 - direction]);
        let mut buffer = vec![0; 32 * 1024];
        while !self.dead.load(Ordering::Relaxed) {
            let state = self.state[direction].load(Ordering::Relaxed);
            let age = self.useless.lock().unwrap().map(|since| since.elapsed());
            let trickles = state == Fault::Throttle as u8 || state == Fault::Slow as u8;
            if trickles {
                if state == Fault::Throttle as u8
                    && age.is_some_and(|age| age > Duration::from_millis(400))
                {
                    self.state[direction].store(0, Ordering::Relaxed);
                }
                thread::sleep(TICK);
            } else if age.is_some_and(|age| age > USELESS)
                && self
                    .state
                    .iter()
                    .any(|state| !matches!(state.load(Ordering::Relaxed), 0 | 6 | 7))
            {
                break;
            }
            if state == Fault::Stall as u8 {
                thread::sleep(TICK);
                continue;
            }
            let most = if trickles { 512 } else { buffer.len() };
            let read = match from.read(&mut buffer[..most]) {
                Ok(0) => {
                    if state != Fault::HalfClose as u8 && state != Fault::BlackHole as u8 {
                        let _gone = to.shutdown(Shutdown::Write);
                    }
                    // An end that has finished sending may still receive.
                    self.wait_for_the_other(direction);
                    break;
                }
                Ok(read) => read,
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    continue;
                }
                Err(_) => break,
            };
            if matches!(state, 3 | 5) {
                continue;
            }
            let mut bytes = &buffer[..read];
            while let Some((now, fault)) = self.count(direction, bytes.len()) {
                if !self.write(to, &bytes[..now]) {
                    break;
                }
                bytes = &bytes[now..];
                if fault != Fault::Throttle {
                    shared.cuts.fetch_add(1, Ordering::Relaxed);
                    *self.next.lock().unwrap() = None;
                } else {
                    *self.next.lock().unwrap() = shared.draw();
                }
                self.strike(fault, direction);
                if fault != Fault::Throttle {
                    break;
                }
            }
            let state = self.state[direction].load(Ordering::Relaxed);
            if matches!(state, 0 | 6 | 7) && !self.write(to, bytes) {
                break;
            }
        }
        self.dead.store(true, Ordering::Relaxed);
    }

    fn wait_for_the_other(&self, direction: usize) {
        let began = Instant::now();
        while !self.dead.load(Ordering::Relaxed)
            && self.state[1 - direction].load(Ordering::Relaxed) == 0
            && began.elapsed() < USELESS
        {
            thread::sleep(TICK);
        }
    }

    /// Counts bytes towards the next fault; returns how many may still pass when it is due.
    fn count(&self, direction: usize, bytes: usize) -> Option<(usize, Fault)> {
        let mut next = self.next.lock().unwrap();
        let (left, fault, counts) = next.as_mut()?;
        if *counts != direction {
            return None;
        }
        if *left <= bytes {
            return Some((*left, *fault));
        }
        *left -= bytes;
        None
    }

    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.dead.load(Ordering::Relaxed) {
                return false;
            }
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
        }
        true
    }
}
