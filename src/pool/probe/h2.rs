//! Asks a service over HTTP/2: one connection, one stream.

use h2::client::{Builder, SendRequest};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};

use super::http::{HEAD_BYTES_MAX, Question};
use super::judge::Answer;
use crate::pool::NodeStream;
use crate::pool::health::FailReason;

/// Asks over a connection whose other side speaks HTTP/2. The caller bounds its time.
pub(super) async fn exchange(
    stream: NodeStream,
    scheme: &str,
    authority: &str,
    question: &Question<'_>,
) -> Result<Answer, FailReason> {
    let mut request = hyper::Request::get(format!("{scheme}://{authority}{}", question.path))
        .version(hyper::Version::HTTP_2)
        .header(USER_AGENT, "roomgate");
    if let Some((media_type, _)) = question.post {
        request = request.method(hyper::Method::POST).header(CONTENT_TYPE, media_type);
    }
    let request = request.body(()).map_err(|e| FailReason::Answer(format!("no request can be made: {e}")))?;
    let (sender, connection) = Builder::new()
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .enable_push(false)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(|error| answer(&error))?;
    // Driven right here rather than spawned: when the deadline drops this future, the connection goes with it.
    let connection = std::pin::pin!(connection);
    let exchange = std::pin::pin!(read(sender, request, question));
    match futures_util::future::select(exchange, connection).await {
        futures_util::future::Either::Left((result, _)) => result,
        futures_util::future::Either::Right((ended, exchange)) => {
            ended.map_err(|error| answer(&error))?;
            exchange.await
        }
    }
}

async fn read(
    sender: SendRequest<Bytes>,
    request: hyper::Request<()>,
    question: &Question<'_>,
) -> Result<Answer, FailReason> {
    let mut sender = sender.ready().await.map_err(|error| answer(&error))?;
    let (response, mut body) =
        sender.send_request(request, question.post.is_none()).map_err(|error| answer(&error))?;
    if let Some((_, text)) = question.post {
        body.send_data(Bytes::from_static(text.as_bytes()), true).map_err(|error| answer(&error))?;
    }
    let response = response.await.map_err(|error| answer(&error))?;
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut read = Answer {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default().to_ascii_lowercase(),
        body: Vec::new(),
    };
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| answer(&error))?;
        if !read.add(&data) {
            break;
        }
        // The window is larger than all that is read; a connection that is gone shows at the next read.
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(read)
}

fn answer(error: &h2::Error) -> FailReason {
    FailReason::Answer(format!("HTTP/2: {error}"))
}
