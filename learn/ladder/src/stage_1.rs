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
    // your code here: this reads once. A read returns what has arrived, and 0 at the end of input.
    let got = client.read(&mut bytes)?;
    client.write_all(&bytes[..got])?;
    Ok(())
}
