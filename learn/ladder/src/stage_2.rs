//! Stage 2: non-blocking sockets. Each call returns at once, and one thread serves all clients.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Serves all clients in turns, for ever.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        // your code here: this waits for a new client, and meanwhile nobody is served.
        let (client, _address) = listener.accept()?;
        clients.push(client);
        clients.retain_mut(echo);
    }
}

/// Sends back the bytes that are here now. Returns false if the client is finished.
fn echo(client: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    // your code here: a read that would block is no reason to give the client up.
    match client.read(&mut bytes) {
        Ok(0) => false, // the end of input
        Ok(got) => client.write_all(&bytes[..got]).is_ok(),
        Err(_) => false,
    }
}
