//! Stage 1: echo that blocks. Each call waits until it has something to return.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Serves one client after the other.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (client, _address) = listener.accept()?;
        // The error of one client is no reason to end the server.
        let _ = echo(client);
    }
}

/// Sends back all that the client sends, until the client ends its side.
fn echo(mut client: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let got = client.read(&mut bytes)?;
        if got == 0 {
            return Ok(()); // the end of input
        }
        client.write_all(&bytes[..got])?;
    }
}
