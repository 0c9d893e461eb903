//! A browser controlled like a user would: it opens pages, clicks, types and chooses files.
//!
//! Tests control Chromium over two pipes (the DevTools protocol, JSON separated by NULs), which
//! needs neither a port nor a crate. Console errors and exceptions of a page are recorded for the
//! test.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Process, now, pass};

/// Maximum wait. A browser that starts for the first time on a busy machine needs long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one open page.
pub(crate) struct Browser {
    to: ChildStdin,
    from: Receiver<Value>,
    next_id: u64,
    session: Value,
    /// Errors of the page: exceptions, and errors on the console.
    pub(crate) complaints: Vec<String>,
    /// Ends before the profile is deleted.
    _process: Process,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start(chromium: &Path) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads from descriptor 3 and writes to 4. A shell can connect our pipes to these.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"])
            .arg(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-pipe", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a browser starts");
        let to = child.stdin.take().unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (to_test, from) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while let Ok(1..) = pipe.read_until(0, &mut message) {
                let parsed = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message));
                message.clear();
                if parsed.map(|parsed| to_test.send(parsed)).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            to,
            from,
            next_id: 0,
            session: Value::Null,
            complaints: Vec::new(),
            _process: Process(child),
            _profile: profile,
        };
        let page = browser.command("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = browser
            .command("Target.attachToTarget", &json!({ "targetId": page["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page.enable", "Runtime.enable", "DOM.enable"] {
            browser.command(domain, &json!({}));
        }
        browser
    }

    /// Sends a command and waits for its result.
    fn command(&mut self, method: &str, parameters: &Value) -> Value {
        self.try_command(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends a command and waits for its result, or for the reason why the browser refused it.
    fn try_command(&mut self, method: &str, parameters: &Value) -> Result<Value, Value> {
        self.next_id += 1;
        let mut message = json!({ "id": self.next_id, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser reads commands");
        let give_up = now() + PATIENCE;
        loop {
            let left = give_up.saturating_duration_since(now());
            let message = self.from.recv_timeout(left).unwrap_or_else(|_| panic!("no response to {method}"));
            self.note(&message);
            if message["id"] == self.next_id {
                return if message["error"].is_null() {
                    Ok(message["result"].clone())
                } else {
                    Err(message["error"].clone())
                };
            }
        }
    }

    fn note(&mut self, message: &Value) {
        let is_error = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => message["params"]["type"] == "error",
            _ => false,
        };
        if is_error {
            self.complaints.push(message["params"].to_string());
        }
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        let gone = self.command("Page.navigate", &json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.until(&format!("location.href == {url:?} && document.readyState == 'complete'"));
    }

    /// Evaluates an expression in the page. Returns null if this fails, for example while the next
    /// page loads.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        // During a navigation no context for the evaluation exists, which is an error.
        let evaluated = self.try_command("Runtime.evaluate", &asked).unwrap_or_default();
        evaluated["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let give_up = now() + PATIENCE;
        let expression =
            format!("(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()");
        while self.value(&expression) != true {
            if now() > give_up {
                let page = self.value("location.href + '\\n' + document.documentElement.outerHTML");
                panic!("never true: {expression}\n{}", page.as_str().unwrap_or_default());
            }
            pass(Duration::from_millis(10));
        }
    }

    /// Sets the size of the window and the colour scheme, `light` or `dark`.
    pub(crate) fn look_like(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Lets pages run scripts, or not.
    pub(crate) fn run_scripts(&mut self, runs: bool) {
        self.command("Emulation.setScriptExecutionDisabled", &json!({ "value": !runs }));
    }

    /// Presses a key that types no letter: Tab, Enter, Space or an arrow.
    pub(crate) fn press_key(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            "ArrowDown" => ("ArrowDown", 40, ""),
            key => panic!("unknown key {key}"),
        };
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        for kind in [down, "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number });
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.command("Input.dispatchKeyEvent", &event);
        }
    }

    /// Clicks the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})"));
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView(); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.command("Input.dispatchMouseEvent", &event);
        }
    }

    /// Clicks an input and types.
    pub(crate) fn type_into(&mut self, selector: &str, text: &str) {
        self.click(selector);
        self.command("Input.insertText", &json!({ "text": text }));
    }

    /// Chooses files in an input, as its dialog would.
    pub(crate) fn choose(&mut self, selector: &str, files: &[&Path]) {
        let document = self.command("DOM.getDocument", &json!({}));
        let field = json!({ "nodeId": document["root"]["nodeId"], "selector": selector });
        let node = self.command("DOM.querySelector", &field);
        self.command("DOM.setFileInputFiles", &json!({ "files": files, "nodeId": node["nodeId"] }));
    }
}
