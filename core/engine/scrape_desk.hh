// Who asks for metrics, and how far each of them is: a machine without I/O, so that its bounds are
// tested under a clock of the test's. metrics_server.hh moves its bytes.
//
//   a connection: its request is read -> it waits for numbers -> its answer is sent -> what it
//   still says is thrown away until it closes (closing earlier would let the kernel take the answer
//   back)
//
// Bounds: so many connections (when one more comes, the oldest makes room), a head of 16 KiB, a
// deadline for the request and one for the answer, and numbers are taken ten times a second at
// most, for all who wait together. An answer holds numbers that were taken after it was asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/http/scrape.hh"
#include "ring/clock.hh"

namespace burin::engine {

struct scrape_limits {
    std::size_t connections = 8;
    ring::microseconds_t request = 5 * ring::second;  // from the accept
    ring::microseconds_t answer = 10 * ring::second;  // from the request to the scraper's close
    ring::microseconds_t pause = 100 * ring::millisecond;  // from numbers to numbers
    ring::microseconds_t numbers = 2 * ring::second;       // for the workers to tell them
};

struct scrape_counters {
    std::uint64_t answered = 0;  // numbers, sent to the last byte
    std::uint64_t refused = 0;   // no request for metrics
    std::uint64_t cut_off = 0;   // too slow, made room, or gone
    std::uint64_t without_numbers = 0;
};

class scrape_desk {
  public:
    explicit scrape_desk(const scrape_limits& limits = {}) : _limits(limits) {}

    // `id` names the connection (its descriptor). Somebody may have to go: see take_gone().
    void arrived(int id, ring::microseconds_t now);
    // Bytes of the connection; none: its other side is closed, and nothing more is to be read.
    void received(int id, bytes_view bytes, ring::microseconds_t now);
    bool to_read(int id) const;
    // It broke.
    void broken(int id);
    // What is to be sent now; empty: nothing, for the moment. `sent` bytes of it went.
    std::string_view to_send(int id) const;
    void sent(int id, std::size_t bytes);
    // Everything was sent: the direction towards the scraper is to be shut, once.
    bool to_shut(int id);

    // Somebody waits for numbers, and they may be taken now. Then begin(), and later numbers() or
    // no_numbers().
    bool wants_numbers(ring::microseconds_t now) const;
    void begin(ring::microseconds_t now);
    void numbers(std::string_view text);
    void no_numbers(std::string_view why);
    // The workers did not tell them in time.
    bool overdue(ring::microseconds_t now) const;

    // Ends what is too slow.
    void advance(ring::microseconds_t now);
    // When advance(), wants_numbers() or overdue() may say something new; nothing: after an event.
    std::optional<ring::microseconds_t> next() const;
    // Connections that are over, to be closed. Each is named once.
    std::vector<int> take_gone();

    std::size_t connections() const noexcept { return _all.size(); }
    const scrape_counters& counters() const noexcept { return _counters; }

  private:
    enum class stage : std::uint8_t { reading, waiting, asked, sending, draining };
    struct scraper {
        int id;
        ring::microseconds_t deadline;
        stage at = stage::reading;
        http::scrape_request request = {};
        byte_vector head = {};                           // while it is read
        std::shared_ptr<const std::string> answer = {};  // shared by all who asked together
        std::size_t sent = 0;
        bool has_numbers = false, shut = false, closed = false;
    };
    scraper* find(int id);
    const scraper* find(int id) const;
    void answer_all(std::string response, bool has_numbers);
    void end(int id);

    scrape_limits _limits;
    std::vector<scraper> _all;  // the oldest first
    std::vector<int> _gone;
    std::optional<ring::microseconds_t> _began;  // numbers are being taken
    std::optional<ring::microseconds_t> _last;   // when they were the last time
    scrape_counters _counters;
};

}  // namespace burin::engine
