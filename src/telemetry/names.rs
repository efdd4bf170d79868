//! Every metric name, in one place. Dashboards depend on them: they are stable.
//!
//! No room, participant or address is ever a label.

// --- process ---
/// Gauge: 1, with the labels `version` and `edge`.
pub const BUILD_INFO: &str = "roomgate_build_info";
/// Gauge: spawned tasks that run.
pub const TASKS: &str = "roomgate_tasks";

// --- configuration ---
/// Counter, label `result` (`applied`, `rejected`): reloads.
pub const CONFIG_RELOADS: &str = "roomgate_config_reloads_total";
/// Gauge: generation of the running configuration, from 1.
pub const CONFIG_GENERATION: &str = "roomgate_config_generation";
/// Gauge: 1 if the last reload was applied, 0 if it was rejected.
pub const CONFIG_LAST_RELOAD_OK: &str = "roomgate_config_last_reload_success";

// --- edge ---
/// Gauge: client connections that are open.
pub const EDGE_CONNECTIONS: &str = "roomgate_edge_connections";
/// Counter: client connections that were accepted.
pub const EDGE_CONNECTIONS_TOTAL: &str = "roomgate_edge_connections_total";
/// Counter, label `reason` (`full`, `per_ip`, `banned`): client connections that were closed at once.
pub const EDGE_CONNECTIONS_REFUSED: &str = "roomgate_edge_connections_refused_total";
/// Counter: failures of accept itself, such as missing descriptors.
pub const EDGE_ACCEPT_ERRORS: &str = "roomgate_edge_accept_errors_total";
/// Counter, label `result` (`ok`, `passed` on by name, `timeout`, `closed`, `unknown_name`, or see `edge::tls::failure`): TLS
/// handshakes.
pub const EDGE_HANDSHAKES: &str = "roomgate_edge_handshakes_total";
/// Counter: TLS handshakes that resumed a session.
pub const TLS_RESUMED: &str = "roomgate_tls_resumed_total";
/// Counter, label `result` (`replaced`, `failed`): certificates, authorities and ticket keys whose files have changed.
pub const TLS_LOADS: &str = "roomgate_tls_file_loads_total";
/// Gauge, labels `listener`, `certificate` (its file): when it expires, in seconds since the Unix epoch.
pub const TLS_CERTIFICATE_EXPIRY: &str = "roomgate_tls_certificate_expiry_seconds";
/// Gauge, labels `listener`, `certificate` (its file): 1 while its files cannot be used, and an older one is in use.
pub const TLS_CERTIFICATE_FAILED: &str = "roomgate_tls_certificate_load_failed";
/// Counter, label `reason` (see `wire::http_head::Refusal`): request heads that were refused.
pub const EDGE_HEADS_REFUSED: &str = "roomgate_edge_heads_refused_total";
/// Counter, label `kind` (`reset`, `reset_sent`, `settings`, `ping`, `priority`, `window_update`, `continuation`, `empty`,
/// `unknown`, `codec` for bounds of the HTTP/2 codec itself): HTTP/2 connections that were ended because the client flooded.
pub const EDGE_H2_FLOODS: &str = "roomgate_edge_h2_floods_total";
/// Counter, label `class` (`1xx` to `5xx`, `none` when the client left first): requests by their answer.
pub const EDGE_REQUESTS: &str = "roomgate_edge_requests_total";
/// Histogram, seconds: from the request head to the head of the node's answer.
pub const EDGE_RESPONSE_SECONDS: &str = "roomgate_edge_response_seconds";
/// Counter: connects to nodes that failed.
pub const EDGE_CONNECT_FAILURES: &str = "roomgate_edge_connect_failures_total";
/// Counter, label `reason` (`descriptors`, `memory`, `ports`): connects to nodes that this machine had no means to make.
pub const EDGE_LOCAL_ERRORS: &str = "roomgate_edge_local_errors_total";
/// Gauge: WebSocket tunnels that are open.
pub const EDGE_TUNNELS: &str = "roomgate_edge_tunnels";
/// Counter: WebSocket tunnels that were opened.
pub const EDGE_TUNNELS_TOTAL: &str = "roomgate_edge_tunnels_total";
/// Counter, label `reason` (`ended`, `idle`, `no_pong`, `stopping`, `told`, `node_down`, `error`): tunnels by why they
/// ended.
pub const EDGE_TUNNELS_CLOSED: &str = "roomgate_edge_tunnels_closed_total";
/// Counter, label `direction` (`from_client`, `from_node`): bytes through tunnels.
pub const EDGE_TUNNEL_BYTES: &str = "roomgate_edge_tunnel_bytes_total";
/// Counter, label `result` (`v1`, `v2`, `local`; `missing`, `malformed`, `too_large`, `timeout`, `closed`): connections that
/// have to begin with a PROXY header.
pub const EDGE_PROXY_HEADERS: &str = "roomgate_edge_proxy_headers_total";
/// Counter, label `result` (`served`, `refused` as long as nobody serves TURN): TURN clients on TLS listeners.
pub const EDGE_TURN_STREAMS: &str = "roomgate_edge_turn_streams_total";
/// Gauge: streams to TCP pools that are open or being connected.
pub const EDGE_L4_STREAMS: &str = "roomgate_edge_l4_streams";
/// Counter, label `way` (`listener`, `passthrough`): streams to TCP pools, by how they came there.
pub const EDGE_L4_STREAMS_TOTAL: &str = "roomgate_edge_l4_streams_total";
/// Counter, label `reason` (`ended`, `error`, `idle`, `stopping`, `node_down`, `no_node`, `unreachable`): streams to TCP
/// pools by why they ended.
pub const EDGE_L4_CLOSED: &str = "roomgate_edge_l4_closed_total";
/// Counter, label `direction` (`from_client`, `from_node`): bytes of streams to TCP pools.
pub const EDGE_L4_BYTES: &str = "roomgate_edge_l4_bytes_total";

// --- cache ---
/// Counter, label `result` (`hit`, `stale`, `stale_if_error`, `collapsed`, `revalidated`, `miss`, `unstored`, `bypass`):
/// requests of routes that keep answers. The first four did not ask a node.
pub const CACHE_REQUESTS: &str = "roomgate_cache_requests_total";
/// Gauge: answers that are kept.
pub const CACHE_OBJECTS: &str = "roomgate_cache_objects";
/// Gauge: bytes of answers that are kept or still read.
pub const CACHE_BYTES: &str = "roomgate_cache_bytes";
/// Counter: answers that were kept.
pub const CACHE_STORED: &str = "roomgate_cache_stored_total";
/// Counter, label `reason` (`status`, `secret`, `unsaid`, `stale`, `varies`, `endless`, `large`): answers that were fetched
/// to be kept and were not.
pub const CACHE_NOT_STORED: &str = "roomgate_cache_not_stored_total";
/// Counter: answers that went because there was no room.
pub const CACHE_EVICTED: &str = "roomgate_cache_evicted_total";
/// Gauge: requests that wait for another's fetch.
pub const CACHE_WAITING: &str = "roomgate_cache_waiting";
/// Counter: answers that were taken away by their URL.
pub const CACHE_PURGED: &str = "roomgate_cache_purged_total";

// --- limits ---
/// Counter, labels `limit` (`connections_per_ip`, `requests_per_ip`, `requests_per_room`, `requests_total`,
/// `new_rooms_per_ip`, `new_rooms_total`, `connections_per_room`, `bans`, `banned`, `denied`), `action` (`refused`,
/// `dry_run`): connections and requests beyond a limit.
pub const EDGE_LIMITED: &str = "roomgate_edge_limited_total";
/// Counter, label `table` (`rates`, `connections`): what was let through unlimited because a table was full.
pub const EDGE_LIMIT_TABLE_FULL: &str = "roomgate_edge_limit_table_full_total";
/// Gauge: bans in force.
pub const EDGE_BANS: &str = "roomgate_edge_bans";
/// Counter, label `by` (`rule`, `api`): bans that were added.
pub const EDGE_BANS_ADDED: &str = "roomgate_edge_bans_added_total";

// --- access log ---
/// Counter: lines of the access log that were written.
pub const ACCESS_LOG_LINES: &str = "roomgate_access_log_lines_total";
/// Counter, label `reason` (`full` queue, `open`, `write`): lines of the access log that were lost.
pub const ACCESS_LOG_LINES_DROPPED: &str = "roomgate_access_log_lines_dropped_total";

// --- rooms ---
/// Gauge: rooms that have a place.
pub const ROOMS_PLACED: &str = "roomgate_rooms_placed";
/// Gauge: rooms that an open stream holds.
pub const ROOMS_HELD: &str = "roomgate_rooms_held";
/// Counter: places granted to rooms that had none.
pub const ROOMS_GRANTED: &str = "roomgate_rooms_granted_total";
/// Counter, label `reason` (`node_down`, `node_removed`): rooms placed anew.
pub const ROOMS_REPLACED: &str = "roomgate_rooms_replaced_total";
/// Counter: places that ended after their linger.
pub const ROOMS_EXPIRED: &str = "roomgate_rooms_expired_total";
/// Counter: rooms placed without being kept, because the table was full.
pub const ROOMS_TABLE_FULL: &str = "roomgate_rooms_table_full_total";
/// Counter: requests for a room whose pool has no node that can serve.
pub const ROOMS_NO_NODE: &str = "roomgate_rooms_no_node_total";
/// Counter, label `reason` (`too_long`, `escape`, `not_utf8`, `control`): room names that were refused.
pub const ROOMS_KEY_ERRORS: &str = "roomgate_rooms_key_errors_total";

// --- pool ---
/// Gauge, labels `pool`, `node`: 1 if the node can serve.
pub const POOL_NODE_UP: &str = "roomgate_pool_node_up";
/// Counter, labels `pool`, `node`, `result` (`pass`, `fail`, `unasked` for want of our own resources, `connect_fail`): checks, and
/// connects that failed.
pub const POOL_CHECKS: &str = "roomgate_pool_checks_total";
/// Counter, labels `pool`, `node`, `to` (`up`, `down`): changes of a node's state.
pub const POOL_TRANSITIONS: &str = "roomgate_pool_transitions_total";
/// Gauge, labels `pool`, `node`: open requests and streams.
pub const POOL_OPEN: &str = "roomgate_pool_open";
/// Gauge: requests that wait for the first check of a node, because no other can serve them.
pub const POOL_WAITING: &str = "roomgate_pool_waiting_requests";
/// Counter, label `result` (`found`, `failed`, `timeout`): lookups of the names of nodes.
pub const POOL_LOOKUPS: &str = "roomgate_pool_lookups_total";

// --- media ---
/// Gauge, label `worker`: 1 while the worker's thread runs.
pub const MEDIA_WORKER_UP: &str = "roomgate_media_worker_up";
/// Counter, labels `worker`, `direction` (`in`, `out`): datagrams through the media port.
pub const MEDIA_DATAGRAMS: &str = "roomgate_media_datagrams_total";
/// Counter, labels `worker`, `direction`: UDP payload bytes through the media port.
pub const MEDIA_BYTES: &str = "roomgate_media_bytes_total";
/// Counter, labels `worker`, `direction`: receive and send system calls.
pub const MEDIA_SYSCALLS: &str = "roomgate_media_syscalls_total";
/// Counter, label `worker`: datagrams sent together with others in one system call (GSO).
pub const MEDIA_DATAGRAMS_BATCHED: &str = "roomgate_media_datagrams_batched_total";
/// Counter, labels `worker`, `direction`: datagrams that moved between workers.
pub const MEDIA_RING_DATAGRAMS: &str = "roomgate_media_ring_datagrams_total";
/// Counter, labels `worker`, `reason`: datagrams dropped by a worker.
pub const MEDIA_DATAGRAMS_DROPPED: &str = "roomgate_media_datagrams_dropped_total";
/// Counter, label `worker`: datagrams dropped by the kernel because a receive buffer was full.
pub const MEDIA_SOCKET_DROPPED: &str = "roomgate_media_socket_dropped_total";
/// Gauge, label `worker`: validated flows.
pub const MEDIA_FLOWS: &str = "roomgate_media_flows";
/// Gauge, label `worker`: STUN requests whose answer has not been seen.
pub const MEDIA_PENDING: &str = "roomgate_media_pending_requests";
/// Gauge, label `worker`: receive buffers made, 64 KiB each.
pub const MEDIA_BUFFERS: &str = "roomgate_media_receive_buffers";
/// Counter, label `worker`: turns of the worker's loop.
pub const MEDIA_TURNS: &str = "roomgate_media_turns_total";
/// Gauge, label `worker`: 99th percentile of the loop's turns in the last second.
pub const MEDIA_TURN_P99_SECONDS: &str = "roomgate_media_turn_p99_seconds";
/// Gauge, label `worker`: longest turn of the loop in the last second.
pub const MEDIA_TURN_MAX_SECONDS: &str = "roomgate_media_turn_max_seconds";

// --- sfu ---
/// Gauge, label `worker`: rooms with people in them.
pub const SFU_ROOMS: &str = "roomgate_sfu_rooms";
/// Gauge, label `worker`: participants.
pub const SFU_PARTICIPANTS: &str = "roomgate_sfu_participants";
/// Counter, labels `worker`, `direction` (`in`, `out`): RTP packets from and to participants.
pub const SFU_PACKETS: &str = "roomgate_sfu_rtp_packets_total";
/// Counter, labels `worker`, `reason` (`malformed`, `unwritten`): RTP packets that were not forwarded.
pub const SFU_PACKETS_DROPPED: &str = "roomgate_sfu_rtp_packets_dropped_total";
/// Counter, label `worker`: participants that joined.
pub const SFU_JOINED: &str = "roomgate_sfu_joined_total";
/// Counter, label `worker`: joins refused because the worker or the room was full.
pub const SFU_JOINS_REFUSED: &str = "roomgate_sfu_joins_refused_total";
/// Counter, label `worker`: SDP offers that were refused.
pub const SFU_OFFERS_REFUSED: &str = "roomgate_sfu_offers_refused_total";
/// Counter, labels `worker`, `reason` (`panic`, `engine`, `closed`, `silent`, `slow`, `lost`): participants that ended
/// without having left.
pub const SFU_ENDED: &str = "roomgate_sfu_ended_total";
/// Counter, labels `worker`, `step` (`wanted`, `asked`): keyframe requests by receivers, and those sent to senders.
pub const SFU_KEYFRAMES: &str = "roomgate_sfu_keyframe_requests_total";
/// Counter, label `worker`: ICE restarts.
pub const SFU_ICE_RESTARTS: &str = "roomgate_sfu_ice_restarts_total";
/// Counter, label `command` (`join`, `offer`, `mute`, `leave`): commands that a worker's full queue did not take.
pub const SFU_COMMANDS_DROPPED: &str = "roomgate_sfu_commands_dropped_total";
/// Gauge, label `worker`: 1 if the last self-test passed.
pub const SFU_SELFTEST_PASSED: &str = "roomgate_sfu_selftest_passed";
/// Counter, labels `worker`, `result` (`pass`, `fail`): self-tests.
pub const SFU_SELFTESTS: &str = "roomgate_sfu_selftests_total";
/// Gauge: open WebSockets of participants.
pub const SFU_WEBSOCKETS: &str = "roomgate_sfu_websockets";
/// Counter, label `code` (1000, 1001, 1008, 1012, 1013, or `lost`): WebSockets of participants that ended.
pub const SFU_WEBSOCKETS_ENDED: &str = "roomgate_sfu_websockets_ended_total";
/// Gauge: WHIP and WHEP resources.
pub const SFU_RESOURCES: &str = "roomgate_sfu_resources";
/// Counter, labels `resource` (`whip`, `whep`), `status`: answered WHIP and WHEP requests.
pub const SFU_REQUESTS: &str = "roomgate_sfu_resource_requests_total";

// --- admin ---
/// Gauge: open connections of the admin server.
pub const ADMIN_CONNECTIONS: &str = "roomgate_admin_connections";
/// Counter: connections that the admin server could not accept.
pub const ADMIN_ACCEPT_ERRORS: &str = "roomgate_admin_accept_errors_total";
/// Counter, label `code` (`2xx`, `4xx`, `5xx`): requests that the admin server answered.
pub const ADMIN_REQUESTS: &str = "roomgate_admin_requests_total";
/// Counter, label `reason`: requests that the admin server refused (Host, Origin, token, ...).
pub const ADMIN_REFUSED: &str = "roomgate_admin_refused_total";
