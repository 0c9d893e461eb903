//! Stage 2: non-blocking sockets. Each call returns at once, and one thread serves all clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Serves all clients in turns, for ever.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        match listener.accept() {
            Ok((client, _address)) => {
                client.set_nonblocking(true)?;
                clients.push(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {} // nobody waits
            Err(error) => return Err(error),
        }
        clients.retain_mut(echo);
    }
}

/// Sends back the bytes that are here now. Returns false if the client is finished.
fn echo(client: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    match client.read(&mut bytes) {
        Ok(0) => false, // the end of input
        Ok(got) => client.write_all(&bytes[..got]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock, // nothing is here
    }
}
