#include "tools/command_line.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <optional>

#include "core/engine/byte_count.hh"
#include "core/engine/duration.hh"
#include "core/engine/log.hh"
#include "core/engine/path_congestion.hh"
#include "core/engine/processors.hh"
#include "core/relay/dns_steering.hh"
#include "core/ssh/kexinit.hh"
#include "crypto/secret.hh"
#include "tun/cidr.hh"

namespace burin::tools {

namespace {

using engine::common_settings;
using texts = std::vector<std::string>;

constexpr int usage_status = 2, failure_status = 1;
constexpr unsigned most_workers = 256;
constexpr std::uint32_t most_channels = 1'000'000;
constexpr std::uint64_t least_memory = 16u << 20;
// Less is two packets; more was not tried with Go (docs/wire.md section 8.6).
constexpr std::uint64_t least_window = 64u << 10, most_window = 1u << 30;
// Less, and a session would do little else than agree on keys.
constexpr std::uint64_t least_rekey = 64u << 10;
// What UDP carries, and sources that one channel remembers, each looked for in turn.
constexpr std::int64_t most_datagram_bytes = 65507, most_sources = 1000;

// Flags of chisel that this program does not have: told by name, not as a typing mistake.
constexpr std::string_view missing_flags[] = {
    "authfile", "backend",  "proxy",  "socks5", "reverse",         "pid",
    "tls-key",  "tls-cert", "tls-ca", "sni",    "tls-skip-verify", "tls-domain"};

std::string long_or_short(std::string_view name) {
    return fmt::format("{}{}", name.size() == 1 ? "-" : "--", name);
}

std::optional<bool> go_bool(std::string_view text) {
    for (std::string_view t : {"1", "t", "T", "true", "TRUE", "True"})
        if (text == t) return true;
    for (std::string_view f : {"0", "f", "F", "false", "FALSE", "False"})
        if (text == f) return false;
    return std::nullopt;
}

// Flags whose values are secrets, and variables. Of these two the value may be a file's name, which
// is none.
constexpr std::string_view secret_flags[] = {"auth", "key", "keyfile", "header"};
constexpr std::string_view secret_variables[] = {"AUTH", "CHISEL_KEY", "CHISEL_KEY_FILE"};
constexpr std::string_view may_be_file[] = {"keyfile", "CHISEL_KEY_FILE"};

bool among(std::span<const std::string_view> names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// The name in "--name" and "-name=value", with what is behind "=".
std::pair<std::string_view, std::optional<std::string_view>> split_flag(std::string_view argument) {
    std::string_view name = argument.substr(argument.starts_with("--") ? 2 : 1);
    const std::size_t equals = name.find('=');
    if (equals == name.npos) return {name, std::nullopt};
    return {name.substr(0, equals), name.substr(equals + 1)};
}

// Where the values of secret flags go: CLI11 would keep copies.
struct secret_flag {
    std::string_view name;
    crypto::secret_string& value;
};

// Rewrites Go's spelling of flags into what CLI11 reads, flags first; secrets go to their places at
// once. Which names there are, and which want a value, the app knows. Returns an error text, or
// empty.
std::string normalise(const CLI::App& app, const texts& arguments,
                      std::span<const secret_flag> secrets, texts& into) {
    texts others;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& a = arguments[i];
        if (a == "--") {
            others.insert(others.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                          arguments.end());
            break;
        }
        if (a.size() < 2 || a[0] != '-') {
            others.push_back(a);
            continue;
        }
        auto [name, value] = split_flag(a);
        if (name.empty() || name[0] == '-')
            return fmt::format("bad flag syntax: {}", name.empty() ? a : a.substr(0, a.find('=')));
        std::string spelled = long_or_short(name);
        const CLI::Option* option = app.get_option_no_throw(spelled);
        if (option == nullptr || option->get_positional()) {
            if (std::find(std::begin(missing_flags), std::end(missing_flags), name) !=
                std::end(missing_flags))
                return fmt::format("--{} is not available in this version of burin", name);
            return fmt::format("flag provided but not defined: -{}", name);
        }
        if (option->get_expected_max() == 0) {
            std::optional<bool> on = value ? go_bool(*value) : true;
            if (!on)
                return fmt::format("invalid boolean value \"{}\" for -{}: parse error", *value,
                                   name);
            if (*on) into.push_back(spelled);
            continue;
        }
        if (!value) {
            if (i + 1 == arguments.size()) return fmt::format("flag needs an argument: -{}", name);
            value = arguments[++i];
        }
        if (value->empty()) continue;  // as if it were not there: empty is each flag's default
        const auto secret =
            std::find_if(secrets.begin(), secrets.end(),
                         [&, &flag = name](const secret_flag& s) { return s.name == flag; });
        if (secret != secrets.end()) {
            secret->value = crypto::secret_string(*value);
            continue;
        }
        into.push_back(spelled);
        into.emplace_back(*value);
    }
    into.emplace_back("--");
    into.insert(into.end(), others.begin(), others.end());
    return {};
}

// Values as texts; what they mean is decided in one place, below, with Go's words.
struct common_flags {
    std::string keepalive = "25s", memory = "256M", max_channels = "10000", workers = "1", rekey,
                metrics, window_max, processors, congestion, ciphers;
    bool verbose = false, send_zc = false;

    void add_to(CLI::App& app) {
        app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
        app.add_option("--keepalive", keepalive,
                       "Interval of SSH pings, which must be answered within one more; 0 for none "
                       "(default 25s)");
        app.add_option(
            "--memory", memory,
            "What a worker's windows and buffers may hold, as 256M or 1G (default 256M)");
        app.add_option("--max-channels", max_channels,
                       "Channels that one session may have open (default 10000)");
        app.add_option("--window-max", window_max,
                       "What a channel may have under way towards this end, where its path is long "
                       "and --memory allows, as 16M (default 64M)");
        app.add_option("--workers", workers, "Threads, each with its own io_uring (default 1)");
        app.add_option("--cpu-affinity", processors,
                       "CPUs to run the workers on, one each, as 0-3,8 (default: wherever the "
                       "kernel puts them)");
        app.add_option("--ciphers", ciphers,
                       "Ciphers to offer, joined by commas, in this order (default " +
                           std::string(ssh::implemented_ciphers()) + ")");
        app.add_option("--congestion", congestion,
                       "Congestion control of the TCP towards the other end, as bbr for paths that "
                       "lose without being full (default: the system's)");
        app.add_option("--rekey-limit", rekey,
                       "Bytes in a direction after which new keys are agreed, as 1G (default 64G, "
                       "or less for a cipher that bears less)");
        app.add_option("--metrics", metrics,
                       "Show counters to Prometheus at http://ADDR/metrics; ADDR is host:port, or "
                       ":port for 127.0.0.1");
        app.add_flag(
            "--send-zc", send_zc,
            "Send bulk without a copy where the kernel says that this spares one (default: "
            "copy; not measured on real network cards)");
        app.add_flag("-v", verbose, "Log every connection");
    }
};

class converter {
  public:
    std::string error;

    void refuse(std::string_view value, std::string_view flag, std::string_view why) {
        if (error.empty())
            error = fmt::format("invalid value \"{}\" for flag -{}: {}", engine::escape(value),
                                flag, why);
    }
    // At least 0.
    ring::microseconds_t duration(const std::string& text, std::string_view flag) {
        auto parsed = engine::parse_duration(text);
        if (!parsed) refuse(text, flag, "not a duration (write 25s, 2m or 1h30m)");
        auto count = parsed ? parsed->count() / 1000 : 0;
        return count < 0 ? 0 : static_cast<ring::microseconds_t>(count);
    }
    std::int64_t number(const std::string& text, std::string_view flag, std::int64_t least,
                        std::int64_t most) {
        std::int64_t value = 0;
        auto end = text.data() + text.size();
        auto result = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, value);
        if (result.ec != std::errc{} || result.ptr != end || value < least || value > most) {
            refuse(text, flag, fmt::format("a number from {} to {} is wanted", least, most));
            return least;
        }
        return value;
    }
    void common(const common_flags& from, common_settings& to) {
        to.verbose = from.verbose;
        using zero_copy = engine::link_options::zero_copy;
        if (from.send_zc && to.send_zero_copy == zero_copy::off)
            to.send_zero_copy = zero_copy::wanted;
        to.keepalive = duration(from.keepalive, "keepalive");
        to.max_channels =
            static_cast<std::uint32_t>(number(from.max_channels, "max-channels", 1, most_channels));
        to.workers = static_cast<unsigned>(number(from.workers, "workers", 1, most_workers));
        auto memory = engine::parse_byte_count(from.memory);
        if (!memory || *memory < least_memory)
            refuse(from.memory, "memory", "a size from 16M on is wanted");
        else
            to.memory_bytes = *memory;
        if (!from.metrics.empty()) this->metrics(from.metrics, to.metrics);
        if (!from.window_max.empty()) {
            auto window = engine::parse_byte_count(from.window_max);
            if (!window || *window < least_window || *window > most_window)
                refuse(from.window_max, "window-max", "a size from 64K to 1G is wanted");
            else
                to.window_max = static_cast<std::uint32_t>(*window);
        }
        affinity(from.processors, to);
        if (!from.congestion.empty() && !engine::sound_congestion_name(from.congestion))
            refuse(from.congestion, "congestion", "a name is wanted, as cubic or bbr");
        to.congestion = from.congestion;
        if (!from.ciphers.empty() && !ssh::sound_cipher_list(from.ciphers))
            refuse(from.ciphers, "ciphers",
                   fmt::format("names out of {} are wanted", ssh::implemented_ciphers()));
        to.ciphers = from.ciphers;
        if (from.rekey.empty()) return;
        auto rekey = engine::parse_byte_count(from.rekey);
        if (!rekey || *rekey < least_rekey)
            refuse(from.rekey, "rekey-limit", "a size from 64K on is wanted");
        else
            to.rekey_bytes = *rekey;
    }
    // host:port, [host]:port or :port.
    void metrics(const std::string& text, engine::metrics_address& to) {
        const std::size_t colon = text.rfind(':');
        std::string host = text.substr(0, colon == text.npos ? 0 : colon);
        if (host.size() > 2 && host.front() == '[' && host.back() == ']')
            host = host.substr(1, host.size() - 2);
        else if (host.find_first_of("[]:") != host.npos)
            return refuse(text, "metrics", "an IPv6 address stands in brackets: [::1]:9100");
        std::uint16_t port = 0;
        const char* const end = text.data() + text.size();
        const char* const digits = colon == text.npos ? end : text.data() + colon + 1;
        const auto read = std::from_chars(digits, end, port);
        if (read.ec != std::errc{} || read.ptr != end || port == 0)
            return refuse(text, "metrics", "an address and a port are wanted, as 127.0.0.1:9100");
        to = {host.empty() ? "127.0.0.1" : host, port};
    }
    void affinity(const std::string& text, common_settings& to) {
        if (text.empty()) return;
        auto list = engine::parse_processors(text);
        if (!list)
            return refuse(text, "cpu-affinity", "a list of different CPUs is wanted, as 0-3,8");
        if (list->size() < to.workers)
            return refuse(
                text, "cpu-affinity",
                fmt::format("{} of {} workers have none", to.workers - list->size(), to.workers));
        to.processors = std::move(*list);
    }
    void auth(const crypto::secret_string& given) {
        // The value is a secret: it is not repeated.
        const std::string_view text = given.view();
        if (!text.empty() && text.find(':') == text.npos && error.empty())
            error = "invalid auth string, expected <user>:<pass>";
    }
};

const std::string& variable(const environment& env, std::string_view name) {
    static const std::string none;
    auto found = env.find(name);
    return found == env.end() ? none : found->second;
}

void secret_from(const environment& env, std::string_view name, crypto::secret_string& into) {
    if (into.empty()) into = crypto::secret_string(variable(env, name));
}

// Unparsable values fall back silently (docs/wire.md section 10.3), and so do those that make no
// sense.
void duration_from(const environment& env, std::string_view name, ring::microseconds_t& into) {
    auto parsed = engine::parse_duration(variable(env, name));
    if (parsed && parsed->count() >= 1000)
        into = static_cast<ring::microseconds_t>(parsed->count() / 1000);
}

std::optional<std::int64_t> number_from(const environment& env, std::string_view name) {
    const std::string& text = variable(env, name);
    std::int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

void common_from(const environment& env, common_settings& into) {
    duration_from(env, "CHISEL_PING_TIMEOUT", into.ping_timeout);
    duration_from(env, "CHISEL_DIAL_TIMEOUT", into.dial_timeout);
    duration_from(env, "CHISEL_SSH_TIMEOUT", into.exchange_timeout);
    if (auto bytes = number_from(env, "CHISEL_WS_READ_LIMIT"); bytes && *bytes >= 0)
        into.message_limit = static_cast<std::uint64_t>(*bytes);
    duration_from(env, "CHISEL_UDP_DEADLINE", into.datagrams.deadline);
    if (auto bytes = number_from(env, "CHISEL_UDP_MAX_SIZE"); bytes && *bytes > 0)
        into.datagrams.max_bytes =
            static_cast<std::uint32_t>(std::min(*bytes, most_datagram_bytes));
    if (auto count = number_from(env, "CHISEL_UDP_MAX_CONNS"); count && *count > 0)
        into.datagrams.most_sources = static_cast<std::uint32_t>(std::min(*count, most_sources));
    into.old_kernel = !variable(env, "BURIN_OLD_KERNEL").empty();
    if (variable(env, "BURIN_SEND_ZC") == "always")
        into.send_zero_copy = engine::link_options::zero_copy::always;
}

// True when there is nothing to run: help was asked for or the arguments are wrong.
template <class Settings>
bool finished(CLI::App& app, const texts& arguments, std::span<const secret_flag> secrets,
              command<Settings>& out) {
    app.set_help_flag("-h,--help", "Show this help");
    app.formatter(std::make_shared<CLI::Formatter>());
    texts clean;
    for (const std::string& a : arguments) {
        if (a == "--") break;
        if (a == "-h" || a == "--h" || a == "-help" || a == "--help") {
            out.help = app.help();
            return true;
        }
    }
    out.error = normalise(app, arguments, secrets, clean);
    if (out.error.empty()) {
        try {
            std::reverse(clean.begin(), clean.end());  // CLI11 reads from the back
            app.parse(std::move(clean));
            return false;
        } catch (const CLI::ParseError& e) {
            out.error = e.what();
        }
    }
    out.error += fmt::format("\nSee {} --help", app.get_name());
    out.status = usage_status;
    return true;
}

template <class Settings>
command<Settings> fail(command<Settings> out, std::string error, int status = failure_status) {
    out.error = std::move(error);
    out.status = status;
    return out;
}

// What this version cannot forward, in the words of a person; empty when it can.
std::string_view missing_kind(const engine::remote& r) {
    if (r.reverse) return "reverse remotes are not available in this version of burin";
    if (r.stdio) return "stdio remotes are not available in this version of burin";
    if (r.socks) return "SOCKS remotes are not available in this version of burin";
    return {};
}

}  // namespace

environment process_environment() {
    environment env;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        std::string_view text = *entry;
        std::size_t equals = text.find('=');
        if (equals != std::string_view::npos)
            env.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return env;
}

void hide_secrets(std::span<char* const> arguments, char** variables) noexcept {
    const auto hide = [](char* value, std::string_view name) {
        const std::string_view text = value;
        if (!among(may_be_file, name) || text.starts_with("ck-")) crypto::wipe(value, text.size());
    };
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        if (argument == "--") break;
        if (!argument.starts_with('-')) continue;
        const auto [name, value] = split_flag(argument);
        if (!among(secret_flags, name)) continue;
        if (value)
            hide(arguments[i] + (value->data() - argument.data()), name);
        else if (i + 1 < arguments.size())
            hide(arguments[++i], name);
    }
    for (char** entry = variables; *entry != nullptr; ++entry) {
        const std::string_view text = *entry;
        const std::string_view name = text.substr(0, text.find('='));
        if (among(secret_variables, name) && name.size() < text.size())
            hide(*entry + name.size() + 1, name);
    }
}

void wipe(std::vector<std::string>& arguments, environment& env) noexcept {
    for (std::string& text : arguments) crypto::wipe(text.data(), text.size());
    for (auto& [name, value] : env) crypto::wipe(value.data(), value.size());
    crypto::wipe_stack();
}

command<engine::server_settings> parse_server(const texts& arguments, const environment& env) {
    command<engine::server_settings> out;
    engine::server_settings& s = out.settings;
    CLI::App app("Carries the connections of burin, chisel and ssh clients to their destinations.",
                 "burin server");
    common_flags common;
    std::string port, short_port, unused;
    common.add_to(app);
    app.add_option("--host", s.host, "Address to listen on (default 0.0.0.0, or HOST)");
    app.add_option("--port", port, "Port to listen on (default 8080, or PORT)");
    app.add_option("-p", short_port, "The same; --port wins");
    app.add_option("--key", unused,
                   "Seed of the host key (or CHISEL_KEY); deprecated, use --keygen and --keyfile");
    app.add_option("--keygen", s.keygen, "Write a host key to this file (- for stdout) and exit");
    app.add_option("--keyfile", unused,
                   "Host key: a file (PEM or ck-), or a ck- key itself (or CHISEL_KEY_FILE)");
    app.add_option("--auth", unused, "user:password that clients must give (or AUTH)");
    app.add_option("--authorized-keys", s.authorized_keys,
                   "File of public keys that may log in, in OpenSSH's format");
    const secret_flag secrets[] = {{"key", s.key}, {"keyfile", s.keyfile}, {"auth", s.auth}};
    if (finished(app, arguments, secrets, out)) return out;
    if (app.get_option_no_throw("--host")->count() == 0 && !variable(env, "HOST").empty())
        s.host = variable(env, "HOST");
    if (port.empty()) port = short_port;
    if (port.empty()) port = variable(env, "PORT");
    secret_from(env, "AUTH", s.auth);
    if (!s.key.empty())
        out.notes = {
            "Option `--key` is deprecated and will be removed in a future version of burin.",
            "Please use `burin server --keygen /file/path`, followed by `burin server --keyfile "
            "/file/path` to specify the SSH private key"};
    secret_from(env, "CHISEL_KEY", s.key);
    secret_from(env, "CHISEL_KEY_FILE", s.keyfile);
    duration_from(env, "CHISEL_CONFIG_TIMEOUT", s.config_timeout);
    duration_from(env, "CHISEL_SSH_TIMEOUT", s.login_timeout);
    duration_from(env, "BURIN_LOGIN_DELAY", s.login_delay);
    if (variable(env, "BURIN_LOGIN_DELAY") == "0") s.login_delay = 0;
    common_from(env, s);

    converter convert;
    convert.common(common, s);
    convert.auth(s.auth);
    if (!port.empty()) s.port = static_cast<std::uint16_t>(convert.number(port, "port", 1, 65535));
    if (s.metrics.port == s.port)
        convert.refuse(common.metrics, "metrics", "that is the port of the tunnel");
    if (!convert.error.empty()) return fail(std::move(out), convert.error);
    return out;
}

command<engine::client_settings> parse_client(const texts& arguments, const environment& env) {
    command<engine::client_settings> out;
    engine::client_settings& s = out.settings;
    CLI::App app(
        "Forwards local ports, and what a TUN device takes in, through a burin or chisel server.\n"
        "A remote is [local-host:][local-port:]remote-host:remote-port, with /udp behind it for "
        "datagrams.",
        "burin client");
    common_flags common;
    std::string retries = "-1", least = "1s", most = "5m", congestion, unused;
    texts headers, remotes;
    common.add_to(app);
    app.add_option("--fingerprint", s.fingerprint,
                   "The server's host key must have this fingerprint (44 characters of base64)");
    app.add_option("--auth", unused, "user:password for the server (or AUTH)");
    app.add_option("--max-retry-count", retries, "Attempts before giving up (default unlimited)");
    app.add_option("--min-retry-interval", least, "First wait between attempts (default 1s)");
    app.add_option("--max-retry-interval", most, "Longest wait between attempts (default 5m)");
    auto repeated = [&app](const char* name, texts& into, const char* what) {
        app.add_option(name, into, what)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->allow_extra_args(false);
    };
    repeated("--header", headers, "\"Name: value\" for the HTTP request; repeatable");
    app.add_option("--hostname", s.hostname, "Host header of the HTTP request");
    app.add_flag("--ws-mask", s.random_mask,
                 "Mask WebSocket frames with random keys (default: with zero)");
    app.add_option("--tun", s.tun, "Create this TUN device and carry its TCP and UDP");
    repeated("--tun-addr", s.tun_addresses,
             "Address of the device, as 10.9.0.1/24 or fd00:9::1/64; repeatable");
    repeated("--route", s.routes,
             "Network to route into the device, as 10.0.0.0/8, or 0.0.0.0/0 and ::/0 for all; "
             "repeatable");
    repeated("--exclude", s.excludes,
             "Part of the routed networks that stays outside of the tunnel, as 10.1.0.0/16; "
             "repeatable");
    app.add_option("--dns", s.dns,
                   "Carry what enters the device for port 53 of any address to this resolver "
                   "behind the server, as 10.0.0.53 or [fd00::53]:5353");
    app.add_option("--tun-congestion", congestion,
                   "Congestion control of TCP towards hosts of the TUN: cubic, or bbr for links "
                   "that lose without being full (default cubic)");
    app.add_option("server", s.server, "URL of the server; http:// may be left out");
    app.add_option("remotes", remotes, "What to forward")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    const secret_flag secrets[] = {{"auth", s.auth}};
    if (finished(app, arguments, secrets, out)) return out;
    secret_from(env, "AUTH", s.auth);
    duration_from(env, "CHISEL_WS_TIMEOUT", s.connect_timeout);
    duration_from(env, "CHISEL_SSH_TIMEOUT", s.handshake_timeout);
    duration_from(env, "CHISEL_SSH_WAIT", s.session_wait);
    s.steering = variable(env, "BURIN_NO_STEERING").empty();
    common_from(env, s);

    converter convert;
    convert.common(common, s);
    convert.auth(s.auth);
    if (!congestion.empty()) {
        if (auto law = tun::parse_congestion_control(congestion))
            s.tun_congestion = *law;
        else
            convert.refuse(congestion, "tun-congestion",
                           fmt::format("{} is wanted", tun::congestion_names));
    }
    s.max_retry_count =
        static_cast<int>(convert.number(retries, "max-retry-count", -1, 1'000'000'000));
    s.min_retry_interval = convert.duration(least, "min-retry-interval");
    s.max_retry_interval = convert.duration(most, "max-retry-interval");
    // Never without a pause.
    if (s.min_retry_interval == 0) s.min_retry_interval = 100 * ring::millisecond;
    if (!convert.error.empty()) return fail(std::move(out), convert.error);
    if (s.server.empty() || (remotes.empty() && s.tun.empty()))
        return fail(std::move(out), "A server and least one remote is required");
    http::server_url url = http::parse_url(s.server);
    if (!url.error.empty()) return fail(std::move(out), url.error);
    if (url.tls) return fail(std::move(out), "https:// is not available in this version of burin");
    for (const std::string& header : headers)
        if (std::string error = s.headers.add(header); !error.empty())
            return fail(std::move(out), error);
    constexpr std::byte nonce[16] = {};
    if (auto request = http::build_request(url, s.headers, nonce); !request.error.empty())
        return fail(std::move(out), request.error);
    for (const std::string& text : remotes) {
        engine::remote_reading reading = engine::parse_remote(text);
        std::string_view why = reading.value ? missing_kind(*reading.value) : reading.error;
        if (!why.empty())
            return fail(std::move(out),
                        fmt::format("Failed to decode remote '{}': {}", engine::escape(text), why));
        s.remotes.push_back(std::move(*reading.value));
    }
    if (s.tun.empty() && !(s.tun_addresses.empty() && s.routes.empty() && s.excludes.empty() &&
                           s.dns.empty() && congestion.empty()))
        return fail(std::move(out),
                    "--tun-addr, --route, --exclude, --dns and --tun-congestion need --tun NAME",
                    usage_status);
    if (!s.tun.empty() && s.tun_addresses.empty())
        return fail(std::move(out), "--tun needs --tun-addr, as 10.9.0.1/24", usage_status);
    for (const std::string& text : s.tun_addresses)
        if (auto parsed = tun::parse_interface(text); !parsed.ok())
            return fail(std::move(out), fmt::format("--tun-addr: {}", parsed.error().what));
    for (const std::string& text : s.routes)
        if (auto parsed = tun::parse_network(text); !parsed.ok())
            return fail(std::move(out), fmt::format("--route: {}", parsed.error().what));
    for (const std::string& text : s.excludes)
        if (auto parsed = tun::parse_network(text); !parsed.ok())
            return fail(std::move(out), fmt::format("--exclude: {}", parsed.error().what));
    if (!s.dns.empty() && !relay::dns_steering::parse(s.dns))
        return fail(std::move(out),
                    fmt::format("--dns: '{}' is not an address, or one with a port; write it like "
                                "10.0.0.53 or [fd00::53]:5353",
                                engine::escape(s.dns)));
    return out;
}

std::string program_help() {
    return fmt::format(
        "burin {}: a tunnel for TCP and UDP over WebSocket and SSH that speaks chisel's "
        "protocol\n\n"
        "  burin server [flags]                          carry connections to their destinations\n"
        "  burin client [flags] <server> <remote>...     forward local ports\n"
        "  burin client [flags] --tun NAME --tun-addr CIDR --route CIDR... <server> [remote]...\n"
        "                                                forward what a TUN device takes in\n"
        "  burin doctor [--json] [server]                what this machine has for a tunnel, and "
        "what to change\n"
        "  burin bench [flags] [serve | [NAME=]HOST:PORT...]\n"
        "                                                measure a tunnel, and draw what it "
        "reached\n"
        "  burin version                                 print the version\n\n"
        "burin server --help, burin client --help and burin bench --help tell their flags.\n",
        BURIN_VERSION);
}

}  // namespace burin::tools
