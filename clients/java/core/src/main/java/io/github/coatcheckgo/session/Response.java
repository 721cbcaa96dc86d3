package io.github.coatcheckgo.session;

/**
 * What the response says about the session: the new token or the deleted cookies, and how it may be
 * cached.
 */
final class Response {
    boolean used; // the handler has asked for the session
    boolean sent; // the header has left
    boolean streams; // commit or reload was called after the header had left
    // The application gives the client the token itself, so no cookie is set
    private boolean handedOut;
    boolean setCookie; // it brings the request's token, or rotatedTo
    boolean issued; // the session got a new token, which is the session's first
    boolean renewed; // the session got a new token, and the client may have the old one
    Token rotatedTo; // what the browser gets; the request goes on with its own token. Null: none
    long confirmed; // System.nanoTime when the store last accepted the new token
    private boolean signedIn; // the cookie is that of signed-in sessions
    private long age; // of the cookie, in seconds; 0: it goes with the browser
    private boolean dropCookie;
    private boolean dropAnonymous;
    private final Credentials credentials;

    Response(Credentials credentials) {
        this.credentials = credentials;
    }

    /** Returns the age of a cookie whose session lives this long. */
    static long age(boolean persistent, long ms) {
        return persistent ? Math.max(1, ms / 1000) : 0;
    }

    /** Brings the session's token, in a cookie of this kind, unless the client has no cookies. */
    void bring(boolean forSignedIn, long cookieAge) {
        setCookie = !handedOut && !credentials.inHeader;
        signedIn = forSignedIn;
        age = cookieAge;
    }

    /** Brings the first token of a session. */
    void bringFirst(boolean forSignedIn, long cookieAge) {
        bring(forSignedIn, cookieAge);
        rotatedTo = null;
        confirmed = System.nanoTime();
        issued = true;
        renewed = false;
    }

    /**
     * The request's own uses of a token that this response brings do not show that the client has
     * it.
     */
    boolean bringsToken() {
        return renewed || issued && !streams;
    }

    /** Sets no cookie: the application gives the client the token itself. */
    void handOut() {
        handedOut = true;
        setCookie = false;
    }

    boolean isHandedOut() {
        return handedOut;
    }

    /** Is as before {@link #handOut}, after an error. */
    void takeBack() {
        handedOut = false;
    }

    /** Deletes the cookies of the request. */
    void drop() {
        dropCookie = credentials.hasCookie;
        dropAnonymous = credentials.hasAnonymous;
    }

    /** Reports whether the response deletes the cookie. */
    boolean deletes() {
        return !setCookie && (dropCookie || dropAnonymous);
    }

    /** Adds the header lines, once. Returns whether they set or delete a cookie. */
    boolean write(Session.Headers h, Config c, String newToken) {
        if (!used) {
            return false;
        }
        Cookies.vary(h, "Cookie");
        if (c.bearer) {
            Cookies.vary(h, "Authorization");
        }
        boolean changes = setCookie;
        if (setCookie) {
            h.add("Set-Cookie", Cookies.line(c, signedIn ? c.cookieName : c.cookieName + Credentials.ANONYMOUS, newToken, age));
            dropCookie &= !signedIn;
            dropAnonymous = signedIn && credentials.hasAnonymous;
        }
        if (dropCookie) {
            h.add("Set-Cookie", Cookies.line(c, c.cookieName, "", -1));
        }
        if (dropAnonymous) {
            h.add("Set-Cookie", Cookies.line(c, c.cookieName + Credentials.ANONYMOUS, "", -1));
        }
        changes |= dropCookie || dropAnonymous;
        Cookies.caching(h, changes || handedOut);
        setCookie = false;
        dropCookie = false;
        dropAnonymous = false;
        return changes;
    }
}
