package io.github.coatcheckgo.session;

import java.time.Duration;
import java.time.Instant;
import java.util.List;

/** What an application knows when it signs somebody in. Only the user is needed. */
public final class Login {
    final String user;
    List<String> methods = List.of();
    int level;
    String device = "";
    String userAgent = "";
    String address = "";
    Duration remember = Duration.ZERO;
    Duration lifetime = Duration.ZERO;
    Instant began;
    Instant authenticated;

    private Login(String user) {
        this.user = user;
    }

    /** Begins a login. The user is the application's id of the user: 1 to 256 bytes of UTF-8. */
    public static Login user(String id) {
        return new Login(id);
    }

    /** How the user proved it, as in RFC 8176: "pwd", "otp", "hwk". At most 16 of 32 bytes. */
    public Login methods(String... names) {
        methods = List.of(names);
        return this;
    }

    /** The assurance level reached, as the application counts: 0 to 99. */
    public Login level(int reached) {
        level = reached;
        return this;
    }

    /** A label for people, such as "Firefox on Linux". The first 128 bytes are kept. */
    public Login device(String label) {
        device = label;
        return this;
    }

    /** The browser's own description. The first 512 bytes are kept. */
    public Login userAgent(String text) {
        userAgent = text == null ? "" : text;
        return this;
    }

    /** The client's address, as the application trusts it. The first 64 bytes are kept. */
    public Login address(String text) {
        address = text == null ? "" : text;
        return this;
    }

    /**
     * The lifetime and the idle timeout of this session and of its cookie. At most
     * {@link Config#maxRemember}.
     */
    public Login remember(Duration d) {
        remember = d;
        return this;
    }

    /** A shorter lifetime for this session. At most {@link Config#lifetime}. */
    public Login lifetime(Duration d) {
        lifetime = d;
        return this;
    }

    /**
     * When the authentication began, at most 24 h ago: if the user was revoked since, the sign-in
     * is refused. Default: the beginning of the request.
     */
    public Login began(Instant at) {
        began = at;
        return this;
    }

    /**
     * When the user authenticated, if that was before this sign-in. Default: the time of the
     * sign-in.
     */
    public Login authenticated(Instant at) {
        authenticated = at;
        return this;
    }
}
