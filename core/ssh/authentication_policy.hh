// Who may log in to a server (docs/wire.md sections 5 and 11.2): users with passwords, authorized
// keys, or everyone.
//
// Any configured credential closes both protocols: passwords and keys count over WebSocket and
// over native SSH alike. Without any, WebSocket is open as chisel's is, and native SSH is refused:
// nobody expects an SSH server that lets everyone forward. A policy is shared, read-only, by all
// transports; it outlives them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/ssh/authorized_keys.hh"
#include "crypto/digest.hh"
#include "crypto/secret.hh"

namespace burin::ssh {

class login_policy {
  public:
    // Keeps a salted digest of the password, not the password.
    void add_user(std::string name, crypto::secret_string password);
    // A key logs in under any user name.
    void add_keys(std::vector<authorized_key> keys);
    // Closes both protocols even while no user and no key is there: a source of credentials was
    // configured and happens to be empty. It never opens again.
    void close() { _closed = true; }

    // No credential is configured.
    bool open() const { return !_closed; }
    // Looks at every user, and compares digests: the time tells neither which name nor which
    // password was wrong.
    bool password_is_right(std::string_view user, std::string_view password) const;
    bool knows(bytes_view key_blob) const;
    // What USERAUTH_FAILURE lists.
    std::string_view methods() const;

  private:
    struct entry {
        std::string name;
        crypto::sha256_digest password;
    };
    crypto::sha256_digest digest(std::string_view password) const;

    const crypto::secret_bytes _salt = random_salt();
    static crypto::secret_bytes random_salt();
    std::vector<entry> _users;
    std::vector<authorized_key> _keys;
    bool _closed = false;
};

}  // namespace burin::ssh
