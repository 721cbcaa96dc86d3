package io.github.coatcheckgo.servlet;

import jakarta.servlet.http.HttpServletRequest;
import java.net.URI;
import java.util.Collections;
import java.util.List;

/**
 * Finds requests that another site caused, as net/http's CrossOriginProtection of Go does: by
 * Sec-Fetch-Site, and in older browsers by Origin.
 */
final class CrossOrigin {
    private CrossOrigin() {}

    static boolean isSafe(String method) {
        return switch (method) {
            case "GET", "HEAD", "OPTIONS", "TRACE" -> true;
            default -> false;
        };
    }

    /**
     * Returns why the request is refused, or null. A WebSocket handshake counts as unsafe: browsers
     * let every site open one, with the cookie. So does TRACE, as in Go.
     */
    static String check(HttpServletRequest r, List<String> trusted) {
        boolean webSocket = "websocket".equalsIgnoreCase(r.getHeader("Upgrade"));
        if (isSafe(r.getMethod()) && !r.getMethod().equals("TRACE") && !webSocket) {
            return null;
        }
        List<String> origins = Collections.list(r.getHeaders("Origin"));
        List<String> sites = Collections.list(r.getHeaders("Sec-Fetch-Site"));
        if (origins.size() > 1 || sites.size() > 1) {
            return "Origin or Sec-Fetch-Site is repeated"; // a proxy may have added a line
        }
        String origin = origins.isEmpty() ? "" : origins.get(0);
        if (trusted.contains(origin)) {
            return null;
        }
        String site = sites.isEmpty() ? "" : sites.get(0);
        if (!site.isEmpty()) {
            return site.equals("same-origin") || site.equals("none") ? null : "the browser says that the request is " + site;
        }
        if (origin.isEmpty()) {
            return null; // no browser, or the same origin
        }
        String host = host(origin);
        return host != null && host.equals(r.getHeader("Host")) ? null : "the Origin is another host";
    }

    /** Returns the host and port of an origin, or null if it has none, or no scheme. */
    private static String host(String origin) {
        try {
            URI uri = URI.create(origin);
            return uri.getScheme() == null ? null : uri.getRawAuthority();
        } catch (IllegalArgumentException e) {
            return null;
        }
    }
}
