// The SSH transport: version lines, key exchange, authentication and packets, as a machine without
// I/O (docs/wire.md sections 1, 4, 5 and 11; docs/architecture.md "Four ideas").
//
// Bytes that arrived go into receive(), which opens packets in place and calls the events. Bytes to
// send come out in two ways: seal_control() for everything that was queued (version line, key
// exchange, authentication, send()), and seal() for data packets, sealed straight to where the send
// reads them. Who calls decides when; sealing fixes the order, so control goes first.
//
// A transport is used by one thread. Events are called from inside receive() and resume_login()
// only (on_failure() also from send(), when the queue is full). They must not destroy the transport
// nor call receive(); they may call send(), start_rekey(), refuse_unknown() and disconnect(). After
// on_failure() the owner writes out what seal_control() still gives, among it a DISCONNECT that
// tells the peer why, and closes. Deadlines are the owner's: there is no clock in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "crypto/secret.hh"
#include "crypto/wire.hh"

namespace burin::crypto {
class host_key;
}

namespace burin::ssh {

class login_policy;

enum class role : std::uint8_t { client, server };

// chisel: `SSH-chisel-v3-*` lines inside a WebSocket. native: `SSH-2.0-*`, towards OpenSSH.
enum class dialect : std::uint8_t { chisel, native };

enum class log_level : std::uint8_t { info, debug };

// Whether a login is answered at once, or when the owner calls resume_login().
enum class login_answer : std::uint8_t { now, later };

class transport_events {
  public:
    virtual ~transport_events() = default;

    // New keys are agreed and, as a client, the host key is verified. A client may send() from here
    // on: its login is already queued, and servers take the rest in order (docs/wire.md section
    // 1.2).
    virtual void on_secured() {}

    // The peer logged in (server), or we did (client). `user` is as sent, not escaped, and valid
    // for the call. As a server, send() is possible from here on.
    virtual void on_authenticated(std::string_view user) = 0;

    // A message of the connection protocol, after authentication, never empty: its number is 80 to
    // 127, or one of is_early() from a chisel peer. The bytes lie in the run given to receive(),
    // opened in place, and belong to whoever owns that run. Bulk data comes this way. A number that
    // the owner does not know goes to refuse_unknown().
    virtual void on_message(bytes_span payload) = 0;

    // This connection is over; called once. The text fits one log line, peer bytes in it are
    // escaped.
    virtual void on_failure(std::string_view why) = 0;

    // Server: a password or a signature was wrong, the attempt-th time. The texts are escaped.
    virtual login_answer on_login_failure(std::string_view user, std::string_view method,
                                          unsigned attempt) {
        (void)user, (void)method, (void)attempt;
        return login_answer::now;
    }

    // Server: a password or a signature is right; on_authenticated() follows, now or later.
    virtual login_answer on_login_right() { return login_answer::now; }

    virtual void on_log(log_level level, std::string_view text) { (void)level, (void)text; }
};

// What a transport is told beforehand. It is referred to, not copied: it outlives the transports
// that use it, and many may share it.
struct settings {
    // What is offered, in order (kexinit.hh); empty: everything that is implemented and at hand. A
    // name that is not known here makes an exchange fail that agrees on it.
    std::string key_exchanges;
    std::string ciphers;
    std::string macs;
    // What one set of keys may carry, payload bytes and packets in a direction, before a new key
    // exchange begins by itself; fewer bytes where the cipher bears less (docs/wire.md
    // section 4.7).
    std::uint64_t rekey_bytes = std::uint64_t{1} << 36;
    std::uint64_t rekey_packets = std::uint64_t{1} << 31;

    // Client: the server's key must have this fingerprint (docs/wire.md section 6.4); empty: not
    // checked.
    std::string fingerprint;
    // Client: the password login that is always sent; both may be empty.
    std::string user;
    crypto::secret_string password;
    // Client: a guessed ECDH_INIT goes out with KEXINIT. Saves a round trip when the server's first
    // key exchange is curve25519-sha256 and its key ecdsa-sha2-nistp256, as our own server's are.
    // When keys are changed the server's lists are known, and only a right guess is made.
    bool guess_key_exchange = false;

    // Server: never null there.
    const crypto::host_key* host_key = nullptr;
    const login_policy* logins = nullptr;
};

// Since the start; bytes are payload. `unknown` are messages with a number that nobody here knows.
struct transport_counters {
    std::uint64_t packets_received = 0, packets_sent = 0;
    std::uint64_t bytes_received = 0, bytes_sent = 0;
    std::uint64_t key_exchanges = 0;
    std::uint64_t unknown = 0;
};

class transport {
  public:
    // Queues the version line and KEXINIT at once: both sides may send them without waiting
    // (docs/wire.md section 1.2). But a native server queues its KEXINIT when the client's has come
    // (docs/wire.md section 11.1), or at offer_now(). Calls no event.
    transport(const settings&, role, dialect, transport_events&);
    ~transport();
    transport(const transport&) = delete;
    transport& operator=(const transport&) = delete;

    // Takes whole packets (at first the version line) from the front of the run, opens them in
    // place and calls the events. Returns the bytes taken; the others must be presented again,
    // unchanged, at the front of the next run. After a failure it takes everything.
    std::size_t receive(bytes_span run) noexcept;
    // Bytes in all of the packet that the last run began but did not hold; 0 while its length has
    // not come. At most 68 more than max_packet_bytes, before authentication than
    // max_early_packet_bytes.
    std::size_t wanted() const noexcept;

    // Queues one message (copied, sealed later, in order). False: not allowed yet (see the events),
    // empty, already failed, or more than max_queued_bytes waiting, which fails the connection.
    bool send(bytes_view payload);
    // True while seal_control() has something to write.
    bool control_pending() const noexcept;
    // Seals what is queued, in order, as long as whole packets fit; returns the bytes written.
    // Begins a new key exchange when a limit of the settings was reached. Room for
    // sealed_size(largest message sent) always makes progress; 4096 does before authentication.
    std::size_t seal_control(bytes_span room) noexcept;

    // Whether data packets may be sealed now: logged in (client: the login is on its way), and not
    // between our KEXINIT and our NEWKEYS. Changes only inside receive(), send(), seal_control(),
    // start_rekey() and disconnect().
    bool data_allowed() const noexcept;
    // Bytes on the wire of a packet with that much payload, under the present keys.
    std::size_t sealed_size(std::size_t payload) const noexcept;
    // Seals one packet whose payload is head followed by body; `out` has room for sealed_size() of
    // both and overlaps neither. Only while data_allowed(); never fails. Returns the bytes written.
    std::size_t seal(bytes_view head, bytes_view body, std::byte* out) noexcept;

    // Native server: the client has been silent for a while, and may wait for our KEXINIT as we
    // wait for its own. Queues it if that is so, without chacha20-poly1305; else nothing happens.
    void offer_now();
    // Begins a new key exchange, behind the messages that are queued; data is held until it is
    // done. Nothing happens before authentication or while one runs.
    void start_rekey();
    // A key exchange runs, the first one or a later one: from the first KEXINIT, ours or the
    // peer's, until both NEWKEYS have been sealed and come. counters().key_exchanges tells one from
    // the next.
    bool exchanging() const noexcept;
    // Queues DISCONNECT (RFC 4253 section 11.1) and ends the transport without on_failure().
    void disconnect(std::uint32_t reason, std::string_view text);
    // The message that on_message() has just been given is not known: UNIMPLEMENTED to native
    // peers, silence to chisel ones, whom it would kill (docs/wire.md section 4.8).
    void refuse_unknown();
    // Server: answers the login for which on_login_failure() or on_login_right() said `later`.
    // Until then receive() takes nothing; afterwards the bytes it left must be presented again.
    void resume_login();

    bool failed() const noexcept;
    bool authenticated() const noexcept;
    bool is_native() const noexcept;
    role side() const noexcept;
    // H of the first key exchange; empty before it.
    bytes_view session_id() const noexcept;
    // Without CR LF; not escaped; empty until it was read.
    std::string_view peer_version() const noexcept;
    // Client: the server's key as chisel prints it; empty until it was seen.
    std::string_view peer_fingerprint() const noexcept;
    // For one log line: key exchange, host key, ciphers. Empty before the first agreement.
    std::string algorithms() const;
    const transport_counters& counters() const noexcept;
    // Memory that grows with what the peer sends and does not read: messages queued, and those of
    // the key exchange.
    std::size_t held_bytes() const noexcept;
    // Of the message that seal_control() gives next, sealed; 0: there is none. The version line in
    // front of the first is not counted.
    std::size_t next_control_bytes() const noexcept;

  private:
    class machine;
    std::unique_ptr<machine> _machine;
};

// The largest packet_length accepted (docs/wire.md section 4.5), and the same before authentication
// (RFC 4253 section 6.1).
inline constexpr std::size_t max_packet_bytes = 262144;
inline constexpr std::size_t max_early_packet_bytes = 35000;
// Control messages waiting to be sealed. A peer that makes us answer but does not read ends here.
inline constexpr std::size_t max_queued_bytes = 1 << 20;
// The same while new keys are agreed, until what had to wait for them is sealed: the peer cannot
// read it meanwhile, however willing. 10 000 channels that open, with names of 255 octets, and
// close again are 3 MiB.
inline constexpr std::size_t max_held_bytes = 4 << 20;
// The same for a server before authentication: with the packet being received it stays below 64
// KiB.
inline constexpr std::size_t max_early_queued_bytes = 16 << 10;

}  // namespace burin::ssh
