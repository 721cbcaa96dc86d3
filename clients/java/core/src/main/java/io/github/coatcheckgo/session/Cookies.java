package io.github.coatcheckgo.session;

import java.util.Locale;

/** The lines of a response header. */
final class Cookies {
    private Cookies() {}

    /** Returns a Set-Cookie line. An age of 0 is none; -1 deletes the cookie. */
    static String line(Config c, String name, String value, long age) {
        StringBuilder line = new StringBuilder(name).append('=').append(value).append("; Path=").append(c.cookiePath);
        if (!c.cookieDomain.isEmpty()) {
            line.append("; Domain=").append(c.cookieDomain);
        }
        if (age != 0) {
            line.append("; Max-Age=").append(Math.max(0, age));
        }
        line.append("; HttpOnly");
        if (!c.insecure) {
            line.append("; Secure");
        }
        return line.append("; SameSite=").append(c.sameSite).toString();
    }

    /** Adds a name to Vary, unless it is there. */
    static void vary(Session.Headers h, String added) {
        for (String line : h.get("Vary")) {
            for (String name : line.split(",")) {
                String v = name.trim().toLowerCase(Locale.ROOT);
                if (v.equals("*") || v.equalsIgnoreCase(added)) {
                    return;
                }
            }
        }
        h.add("Vary", added);
    }

    /** Says how the response may be cached. A shared cache must not keep a token. */
    static void caching(Session.Headers h, boolean bringsToken) {
        if (!bringsToken) {
            if (h.get("Cache-Control").isEmpty()) {
                h.set("Cache-Control", "private, no-cache");
            }
            return;
        }
        h.set("Cache-Control", "no-store");
        // They outrank it
        for (String name : new String[] {"CDN-Cache-Control", "Surrogate-Control"}) {
            if (!h.get(name).isEmpty()) {
                h.set(name, "no-store");
            }
        }
    }
}
