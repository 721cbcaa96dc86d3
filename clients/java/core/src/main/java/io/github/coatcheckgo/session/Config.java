package io.github.coatcheckgo.session;

import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;

/**
 * Configures the sessions of a {@link Sessions}. The defaults are secure. The names and the meaning
 * are those of the Go library. Programs that share sessions must have the same keys, limits and
 * cookie.
 */
public final class Config {
    static final Duration MAX_LIFETIME = Duration.ofDays(3650);
    private static final Duration MAX_COOKIE_AGE = Duration.ofDays(400);

    Duration idleTimeout;
    Duration firstUseTimeout;
    Duration lifetime = Duration.ofHours(24);
    Duration rotateEvery = Duration.ZERO;
    Duration maxRemember = Duration.ZERO;
    int maxSize = 65_536;
    int maxPerUser;
    boolean refuseExtra;
    Set<String> keepFields = Set.of();
    List<Field> userFields = List.of();
    Duration userDataTimeout = Duration.ofDays(90);
    List<byte[]> keys = List.of();
    byte[] userKey;
    boolean seal;
    boolean csrf;
    boolean bearer;
    String cookieName = "__Host-session";
    String cookiePath = "/";
    String cookieDomain = "";
    String sameSite = "Lax";
    boolean insecure;
    boolean persistent;
    List<String> trustedOrigins = List.of();
    Clock clock = Clock.systemUTC();

    /**
     * Ends a session that is not used for this long. Default: 2 h, or the lifetime if that is
     * shorter.
     */
    public Config idleTimeout(Duration d) {
        idleTimeout = d;
        return this;
    }

    /**
     * Ends a new anonymous session whose token does not come back within this time. Default: 15
     * min, or the idle timeout if that is shorter.
     */
    public Config firstUseTimeout(Duration d) {
        firstUseTimeout = d;
        return this;
    }

    /** Ends a session this long after its creation, even if it is in use. Default: 24 h. */
    public Config lifetime(Duration d) {
        lifetime = d;
        return this;
    }

    /** Replaces a session's token once it is this old. At least 1 min. Default: never. */
    public Config rotateEvery(Duration d) {
        rotateEvery = d;
        return this;
    }

    /** The longest {@link Login#remember}. Default: zero, remember is refused. */
    public Config maxRemember(Duration d) {
        maxRemember = d;
        return this;
    }

    /** Limits the bytes of the names and values of one session. At most 16 MiB. Default: 64 KiB. */
    public Config maxSize(int bytes) {
        maxSize = bytes;
        return this;
    }

    /** Limits how many sessions a user has at the same time. At most 100. Default: 0, no limit. */
    public Config maxPerUser(int sessions) {
        maxPerUser = sessions;
        return this;
    }

    /**
     * Refuses a sign-in over {@link #maxPerUser}. Default: false, the user's oldest session ends.
     */
    public Config refuseExtra(boolean refuse) {
        refuseExtra = refuse;
        return this;
    }

    /**
     * The fields that a sign-in keeps from an anonymous session. The others are dropped, because an
     * attacker may have planted them. Default: none.
     */
    public Config keepFields(Collection<String> names) {
        keepFields = Set.copyOf(names);
        return this;
    }

    /**
     * The fields that belong to the user, not to the session, such as a cart. While nobody is
     * signed in, they are in the session. A sign-in moves them to the user's data, which {@link
     * Session#userData} returns: counts are added, and other values replace those of the user.
     * Default: none.
     */
    public Config userFields(Field... fields) {
        userFields = List.of(fields);
        return this;
    }

    /**
     * Deletes the data of a user who does not use it for this long. Reading it counts as use, to
     * within an hour or a twentieth of the time, whichever is less. A change applies to data that
     * is stored for the first time afterwards. At most 10 years. Default: 90 days.
     */
    public Config userDataTimeout(Duration d) {
        userDataTimeout = d;
        return this;
    }

    /**
     * Keys that sign tokens, 32 random bytes each. The first one signs, each one verifies. Default:
     * none.
     */
    public Config keys(List<byte[]> ring) {
        keys = new ArrayList<>();
        ring.forEach(key -> keys.add(key.clone()));
        return this;
    }

    /** The key of the hashes that name users: 32 random bytes. Never change it. Default: none. */
    public Config userKey(byte[] key) {
        userKey = key.clone();
        return this;
    }

    /**
     * Encrypts values and the info of users. It requires {@link #keys} and {@link #userKey}.
     * Default: false.
     */
    public Config seal(boolean on) {
        seal = on;
        return this;
    }

    /** Makes the filter require a CSRF token in requests with an unsafe method. Default: false. */
    public Config csrf(boolean on) {
        csrf = on;
        return this;
    }

    /**
     * Also accepts the token in "Authorization: Bearer", for clients of an API that keep no
     * cookies. They get theirs from {@link Session#bearerToken}. Default: false.
     */
    public Config bearer(boolean on) {
        bearer = on;
        return this;
    }

    /**
     * The name of the cookie. That of anonymous sessions has "-anon" behind it. Default:
     * "__Host-session".
     */
    public Config cookieName(String name) {
        cookieName = name;
        return this;
    }

    /** The path of the cookie. Another than "/" requires a name without "__Host-". Default: "/". */
    public Config cookiePath(String path) {
        cookiePath = path;
        return this;
    }

    /** The domain of the cookie. It requires a name without "__Host-". Default: none. */
    public Config cookieDomain(String domain) {
        cookieDomain = domain;
        return this;
    }

    /** The cookie's SameSite: "Lax", "Strict" or "None". Default: "Lax". */
    public Config sameSite(String value) {
        sameSite = value;
        return this;
    }

    /** Leaves out Secure and "__Host-": only for development over plain HTTP. Default: false. */
    public Config insecure(boolean on) {
        insecure = on;
        if (on && cookieName.equals("__Host-session")) {
            cookieName = "session";
        }
        return this;
    }

    /** Keeps the cookie when the browser closes. Default: false. */
    public Config persistent(boolean on) {
        persistent = on;
        return this;
    }

    /** Other origins whose requests are allowed, such as "https://shop.example". Default: none. */
    public Config trustedOrigins(Collection<String> origins) {
        trustedOrigins = List.copyOf(origins);
        return this;
    }

    /**
     * The clock by which {@link Login#began} and {@link Login#authenticated} are read. Nothing else
     * depends on this machine's clock. Default: the system's.
     */
    public Config clock(Clock c) {
        clock = c;
        return this;
    }

    /** Returns a checked copy with the defaults filled in. */
    Config checked() {
        Config c = new Config();
        c.lifetime = lifetime;
        c.idleTimeout = idleTimeout != null ? idleTimeout : least(Duration.ofHours(2), lifetime);
        c.firstUseTimeout = firstUseTimeout != null ? firstUseTimeout : least(Duration.ofMinutes(15), c.idleTimeout);
        c.rotateEvery = rotateEvery;
        c.maxRemember = maxRemember;
        c.maxSize = maxSize;
        c.maxPerUser = maxPerUser;
        c.refuseExtra = refuseExtra;
        c.keepFields = keepFields;
        c.userFields = userFields;
        c.userDataTimeout = userDataTimeout;
        c.keys = keys;
        c.userKey = userKey;
        c.seal = seal;
        c.csrf = csrf;
        c.bearer = bearer;
        c.cookieName = cookieName;
        c.cookiePath = cookiePath;
        c.cookieDomain = cookieDomain;
        c.sameSite = sameSite;
        c.insecure = insecure;
        c.persistent = persistent;
        c.trustedOrigins = trustedOrigins;
        c.clock = clock;
        c.checkLimits();
        c.checkKeys();
        c.checkCookie();
        return c;
    }

    private static Duration least(Duration a, Duration b) {
        return a.compareTo(b) < 0 ? a : b;
    }

    private static void check(boolean valid, String why) {
        if (!valid) {
            throw new IllegalArgumentException("Config: " + why);
        }
    }

    private static void between(String name, Duration d, Duration least, Duration most) {
        check(d.compareTo(least) >= 0 && d.compareTo(most) <= 0, name + " is " + d + ": it must be " + least + " to " + most);
    }

    private void checkLimits() {
        Duration ms = Duration.ofMillis(1);
        between("lifetime", lifetime, ms, MAX_LIFETIME);
        between("idleTimeout", idleTimeout, ms, lifetime);
        between("firstUseTimeout", firstUseTimeout, ms, idleTimeout);
        between("userDataTimeout", userDataTimeout, ms, MAX_LIFETIME);
        if (!rotateEvery.isZero()) {
            between("rotateEvery", rotateEvery, Duration.ofMinutes(1), lifetime);
        }
        if (!maxRemember.isZero()) {
            between("maxRemember", maxRemember, lifetime, MAX_COOKIE_AGE);
        }
        check(maxSize > 0 && maxSize <= 16 << 20, "maxSize must be 1 to 16 MiB");
        check(maxPerUser >= 0 && maxPerUser <= 100, "maxPerUser must be 0 to 100");
        check(!refuseExtra || maxPerUser > 0, "refuseExtra requires maxPerUser");
        keepFields.forEach(name -> check(Names.isField(name), "keepFields: \"" + name + "\" is not a field's name"));
    }

    private void checkKeys() {
        keys.forEach(key -> check(key.length == Crypto.KEY, "a key has 32 bytes"));
        check(userKey == null || userKey.length == Crypto.KEY, "userKey has 32 bytes");
        check(!seal || !keys.isEmpty() && userKey != null, "seal requires keys and userKey");
    }

    private void checkCookie() {
        check(cookieName.matches("[A-Za-z0-9!#$%&'*+.^_`|~-]+"), "cookieName is not a token");
        String lower = cookieName.toLowerCase(java.util.Locale.ROOT);
        boolean host = lower.startsWith("__host-");
        boolean prefix = host || lower.startsWith("__secure-");
        check(prefix != insecure, "cookieName needs the prefix \"__Host-\" or \"__Secure-\", unless insecure is set");
        check(!host || cookiePath.equals("/") && cookieDomain.isEmpty(), "\"__Host-\" allows no other path and no domain");
        check(cookiePath.matches("/[\\x21-\\x3a\\x3c-\\x7e]*"), "cookiePath is not a path");
        check(cookieDomain.matches("[A-Za-z0-9.-]*"), "cookieDomain is not a domain");
        check(Set.of("Lax", "Strict", "None").contains(sameSite), "sameSite must be Lax, Strict or None");
        check(!sameSite.equals("None") || !insecure, "sameSite None requires Secure");
        check(!persistent || lifetime.compareTo(MAX_COOKIE_AGE) <= 0, "browsers keep a cookie for at most 400 days");
    }
}
