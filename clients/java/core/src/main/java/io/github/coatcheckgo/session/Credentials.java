package io.github.coatcheckgo.session;

import java.util.ArrayList;
import java.util.List;

/**
 * The tokens of one request: in its cookies, or, if that is configured, in its Authorization
 * header. A browser has two cookies: one for signed-in sessions, and one for anonymous sessions, so
 * that the response that starts an anonymous session never replaces the cookie of a sign-in. The
 * signed-in cookie comes first; if it opens no session, the other one counts.
 */
final class Credentials {
    static final String ANONYMOUS = "-anon";
    private static final int MOST = 4;

    final List<Token> tokens = new ArrayList<>(); // to be tried in order
    int twins; // how many of the first ones came under one name
    boolean hasCookie; // whatever its value
    boolean hasAnonymous;
    boolean ambiguous;
    boolean inHeader; // the token came in Authorization: a new one cannot go back in a cookie

    Credentials(List<String> cookieHeaders, String name, Keys keys) {
        this(cookieHeaders, List.of(), name, keys);
    }

    Credentials(List<String> cookieHeaders, List<String> authorization, String name, Keys keys) {
        for (String line : authorization) {
            addHeader(line, keys);
        }
        List<Token> anonymous = new ArrayList<>();
        for (String line : cookieHeaders) {
            for (String part : line.split(";")) {
                // Trim no other space: for browsers, a name that begins with one has no prefix.
                String cookie = trim(part);
                int equals = cookie.indexOf('=');
                String of = equals < 0 ? "" : cookie.substring(0, equals);
                if (!of.equals(name) && !of.equals(name + ANONYMOUS)) {
                    continue;
                }
                boolean signedIn = of.equals(name);
                hasCookie |= signedIn;
                hasAnonymous |= !signedIn;
                Token token = Token.parse(unquote(cookie.substring(equals + 1)), keys);
                if (token != null && signedIn) {
                    add(token);
                } else if (token != null && anonymous.size() < MOST) {
                    anonymous.add(token);
                }
            }
        }
        twins = tokens.size();
        anonymous.forEach(this::add);
        if (twins == 0) {
            twins = tokens.size();
        }
    }

    private static String trim(String s) {
        int from = 0;
        int to = s.length();
        while (from < to && (s.charAt(from) == ' ' || s.charAt(from) == '\t')) {
            from++;
        }
        while (to > from && (s.charAt(to - 1) == ' ' || s.charAt(to - 1) == '\t')) {
            to--;
        }
        return s.substring(from, to);
    }

    private static String unquote(String s) {
        return s.length() > 1 && s.startsWith("\"") && s.endsWith("\"") ? s.substring(1, s.length() - 1) : s;
    }

    /** Adds the token of an Authorization header, if it is one of ours. */
    private void addHeader(String line, Keys keys) {
        int space = line.indexOf(' ');
        boolean bearer = space > 0 && line.substring(0, space).equalsIgnoreCase("Bearer");
        Token token = bearer ? Token.parse(line.substring(space + 1).trim(), keys) : null;
        if (token != null && tokens.isEmpty()) {
            tokens.add(token);
            inHeader = true;
        } else if (token != null && !tokens.contains(token)) {
            ambiguous = true;
        }
    }

    /** Reports whether the browser sends the token by itself, with any request. */
    boolean inCookie() {
        return (hasCookie || hasAnonymous) && !inHeader;
    }

    /** Adds the token of a cookie. */
    private void add(Token token) {
        if (inHeader) {
            ambiguous |= !tokens.contains(token);
            return;
        }
        for (int i = 0; i < tokens.size(); i++) {
            Token have = tokens.get(i);
            if (have.sameSession(token) && have.generation != token.generation) {
                // The older one is left behind under another scope, and nobody stole it.
                if (have.generation < token.generation) {
                    tokens.set(i, token);
                }
                return;
            }
        }
        if (tokens.contains(token)) {
            return;
        }
        if (tokens.size() == MOST) {
            ambiguous = true;
        } else {
            tokens.add(token);
        }
    }
}
