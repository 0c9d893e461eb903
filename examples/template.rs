//! Pages from a template, rendered and escaped by minijinja.
//!
//! Run `cargo run --example template` and open the printed address. `--model threads` selects the
//! twin. Every template engine works, because `Response::html` takes any text.

mod common;

use minijinja::{Environment, context};
use whirligig::date;
use whirligig::{Call, Refusal, Response, Server};

const PAGE: &str = "<!doctype html><meta charset=utf-8><title>{{ title }}</title>
<h1>{{ title }}</h1>
<p>Hello, {{ name }}. It is {{ time }}.</p>
<table>{% for field in fields %}
<tr><th>{{ loop.index }}<td>{{ field[0] }}<td>{{ field[1] }}{% endfor %}
</table>
{% if fields | length > 5 %}<p>That is a lot of headers.</p>{% endif %}
<form><input name=name value='{{ name }}'> <button>Greet</button></form>
";

fn page(call: &Call<'_>, templates: &Environment<'_>) -> Result<Response, Refusal> {
    let fields: Vec<(String, String)> = call
        .headers()
        .iter()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let filled = context! {
        title => "A page from a template",
        name => call.query()?.get("name").unwrap_or("you").to_owned(),
        time => date::iso8601(call.now().unix_secs(), 0),
        fields => fields,
    };
    let page = templates.get_template("page.html").and_then(|template| template.render(filled));
    page.map(Response::html).map_err(|error| Refusal::failed(format!("the template: {error}")))
}

fn main() -> common::Outcome {
    let mut templates = Environment::new();
    // minijinja escapes for HTML if the name of a template ends in .html.
    templates.add_template("page.html", PAGE)?;
    let server = Server::builder()
        .get("/", move |call| page(call, &templates))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
