package io.github.coatcheckgo.servlet;

import jakarta.servlet.http.HttpServletRequest;
import java.net.URI;
import java.util.List;
import java.util.Locale;

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
     * Returns why the request is refused, or null. Browsers let every site open a WebSocket, with
     * the cookie.
     */
    static String check(HttpServletRequest r, List<String> trusted) {
        boolean webSocket = "websocket".equalsIgnoreCase(r.getHeader("Upgrade"));
        if (isSafe(r.getMethod()) && !webSocket) {
            return null;
        }
        String origin = r.getHeader("Origin");
        if (origin != null && trusted.contains(origin)) {
            return null;
        }
        String site = r.getHeader("Sec-Fetch-Site");
        if (site != null && !site.isEmpty()) {
            return site.equals("same-origin") || site.equals("none") ? null : "the browser says that the request is " + site;
        }
        if (origin == null || origin.isEmpty()) {
            return null; // no browser, or the same origin
        }
        return host(origin).equals(String.valueOf(r.getHeader("Host")).toLowerCase(Locale.ROOT)) ? null
            : "the Origin is another host";
    }

    private static String host(String origin) {
        try {
            return String.valueOf(URI.create(origin).getRawAuthority()).toLowerCase(Locale.ROOT);
        } catch (IllegalArgumentException e) {
            return "";
        }
    }
}
