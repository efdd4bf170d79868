//! Opens the media sockets: one per worker and address, all on the same port (`SO_REUSEPORT`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Bytes asked for as receive and send buffer: 4 MiB hold 30 ms of a gigabit.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Opens one socket per worker for each address: `sockets[worker][address]`, and the bound addresses.
///
/// With port 0 the first worker's socket draws the port and the others share it. `[::]` takes IPv4 too, and falls
/// back to `0.0.0.0` on a machine without IPv6.
///
/// # Errors
///
/// The first address that cannot be bound, by name.
pub(super) fn open(bind: &[SocketAddr], workers: u8) -> io::Result<(Vec<Vec<UdpSocket>>, Vec<SocketAddr>)> {
    let mut sockets = (0..workers).map(|_| Vec::with_capacity(bind.len())).collect::<Vec<_>>();
    let mut bound = Vec::with_capacity(bind.len());
    for &address in bind {
        let mut at = address;
        for (worker, sockets) in sockets.iter_mut().enumerate() {
            let socket = if worker == 0 {
                let socket = open_first(address)?;
                at = socket.local_addr()?;
                bound.push(at);
                log_buffers(at, &socket);
                socket
            } else {
                open_one(at).map_err(|error| named(at, &error))?
            };
            sockets.push(socket);
        }
    }
    Ok((sockets, bound))
}

fn open_first(address: SocketAddr) -> io::Result<UdpSocket> {
    match open_one(address) {
        Ok(socket) => Ok(socket),
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            match open_one(v4) {
                Ok(socket) => {
                    tracing::warn!(%address, %error, "no IPv6 here: media on IPv4 only");
                    Ok(socket)
                }
                Err(_) => Err(named(address, &error)),
            }
        }
        Err(error) => Err(named(address, &error)),
    }
}

fn open_one(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    raise_buffers(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Raises both buffers. Without `CAP_NET_ADMIN` the bound is `net.core.rmem_max` and `wmem_max`.
fn raise_buffers(socket: &Socket) {
    // A small buffer loses bursts in the kernel, but the socket works: this is no error, and it is counted.
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
}

/// Says at start what the kernel has granted, and how to get more.
fn log_buffers(address: SocketAddr, socket: &UdpSocket) {
    // The kernel counts its own overhead too: it says twice what it granted.
    let granted = receive_buffer_bytes(socket) / 2;
    if granted < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            %address,
            granted,
            wanted = SOCKET_BUFFER_BYTES,
            "small UDP receive buffer: bursts may be lost; raise net.core.rmem_max"
        );
    } else {
        tracing::info!(%address, granted, "media port is open");
    }
}

fn receive_buffer_bytes(socket: &UdpSocket) -> usize {
    SockRef::from(socket).recv_buffer_size().unwrap_or(0)
}

/// Returns the socket's number in `/proc/net/udp`; 0 if unknown.
pub(super) fn inode(socket: &UdpSocket) -> u64 {
    let Ok(copy) = socket.as_fd().try_clone_to_owned() else { return 0 };
    std::fs::File::from(copy).metadata().map_or(0, |metadata| metadata.ino())
}

/// Returns how many datagrams the kernel dropped because a receive buffer was full, for each of these sockets.
///
/// Reads `/proc/net/udp` and `/proc/net/udp6`; call it from a scrape, never from a worker.
pub(super) fn kernel_drops(inodes: &[u64]) -> Vec<u64> {
    let mut drops = vec![0; inodes.len()];
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        for (inode, dropped) in table.lines().skip(1).filter_map(inode_and_drops) {
            if let Some(at) = inodes.iter().position(|&wanted| wanted == inode && wanted != 0) {
                drops[at] = dropped;
            }
        }
    }
    drops
}

fn inode_and_drops(line: &str) -> Option<(u64, u64)> {
    // sl local rem st queues tr:when retrnsmt uid timeout inode ref pointer drops
    let inode = line.split_ascii_whitespace().nth(9)?.parse().ok()?;
    let drops = line.split_ascii_whitespace().nth(12)?.parse().ok()?;
    Some((inode, drops))
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot bind UDP {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_port_that_the_first_one_drew() {
        let (sockets, bound) = open(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_ne!(bound[0].port(), 0);
        for socket in sockets.iter().flatten() {
            assert_eq!(socket.local_addr().unwrap(), bound[0]);
            assert!(receive_buffer_bytes(socket) > 0);
        }
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let error = open(&["192.0.2.1:0".parse().unwrap()], 1).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    }

    #[test]
    fn kernel_counts_what_the_receive_buffer_could_not_hold() {
        for bind in ["127.0.0.1:0", "[::]:0"] {
            let (sockets, bound) = open(&[bind.parse().unwrap()], 1).unwrap();
            let socket = &sockets[0][0];
            SockRef::from(socket).set_recv_buffer_size(4096).unwrap();
            let inodes = [inode(socket)];
            assert_ne!(inodes[0], 0);
            assert_eq!(kernel_drops(&inodes), [0]);
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..100 {
                sender.send_to(&[0; 1000], ("127.0.0.1", bound[0].port())).unwrap();
            }
            assert!(kernel_drops(&inodes)[0] > 50, "{bind}: {:?}", kernel_drops(&inodes));
        }
    }
}
