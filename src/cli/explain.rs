//! `roomgate explain URL`: what would become of a request, and why.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::Exit;
use super::check::print_faults;
use crate::edge::explain::{Known, Question, explain as explain_request};
use crate::{clock, config};

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The URL that a client asks for
    #[arg(value_name = "URL")]
    pub url: String,
    /// The configuration; without it, the demo
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For which edge; needed if the file has `edges`
    #[arg(long, value_name = "NAME")]
    pub edge: Option<String>,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub method: Method,
    /// A header of the request, such as "X-Room: a"; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]
    pub client: IpAddr,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write \"NAME: VALUE\"")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|error| error.to_string())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?))
}

/// Explains a request by the file alone: no process is asked, and every node is taken to be well.
pub(super) fn explain(args: &ExplainArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let edge = args.edge.as_deref();
    let loaded = match &args.config {
        Some(file) => config::load(file, edge),
        None => config::load_demo(edge),
    };
    let settings = match loaded {
        Ok(loaded) => loaded.settings,
        Err(faults) => return print_faults(&faults, err),
    };
    let url = match Url::parse(&args.url) {
        Ok(url) => url,
        Err(error) => {
            writeln!(err, "{}: {error}; write https://HOST/PATH", args.url)?;
            return Ok(Exit::Usage);
        }
    };
    let question =
        Question { url, method: args.method.clone(), headers: args.headers.clone(), client: args.client };
    match explain_request(&settings, Known::File, &question, clock::now()) {
        Ok(explained) if args.json => {
            serde_json::to_writer_pretty(&mut *out, &explained)?;
            writeln!(out)?;
        }
        Ok(explained) => write!(out, "{explained}")?,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(Exit::Usage);
        }
    }
    Ok(Exit::Ok)
}
