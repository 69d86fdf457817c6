#include "core/engine/request_log.hh"

#include <fmt/format.h>

#include <ctime>

#include "core/engine/byte_count.hh"
#include "core/engine/duration.hh"

namespace burin::engine {

namespace {
// As log lines name a peer, but without the port and the brackets.
std::string address_of(const relay::endpoint& peer) {
    std::string text = peer.text();
    text.resize(text.rfind(':'));
    if (text.starts_with('[')) text = text.substr(1, text.size() - 2);
    return text;
}
}  // namespace

std::string request_line(const http::server_decision& answered, const relay::endpoint& peer,
                         std::chrono::system_clock::time_point at, std::chrono::microseconds took) {
    std::string from = answered.forwarded_for;
    if (from.empty() && !peer.loopback()) from = address_of(peer);
    const std::time_t seconds = std::chrono::system_clock::to_time_t(at);
    const auto milliseconds =
        std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count() % 1000;
    std::tm t{};
    localtime_r(&seconds, &t);
    return fmt::format("{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:03} {} {} {} {}{}\n",
                       t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
                       milliseconds, answered.request, answered.status, duration_text(took),
                       byte_count(answered.body_bytes),
                       from.empty() ? "" : fmt::format(" ({})", from));
}

}  // namespace burin::engine
