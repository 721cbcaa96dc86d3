package io.github.coatcheckgo.servlet;

import static org.junit.jupiter.api.Assertions.assertEquals;

import jakarta.servlet.http.HttpServletRequest;
import java.lang.reflect.Proxy;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Requests that Tomcat or the HTTP client of the JDK does not let pass. */
class CrossOriginTest {
    private static boolean passes(String method, Map<String, String> headers) {
        HttpServletRequest r = (HttpServletRequest) Proxy.newProxyInstance(CrossOriginTest.class.getClassLoader(),
            new Class<?>[] {HttpServletRequest.class}, (proxy, called, args) -> switch (called.getName()) {
                case "getMethod" -> method;
                case "getHeader" -> headers.get(args[0]);
                case "getHeaders" -> Collections.enumeration(headers.containsKey(args[0]) ? List.of(headers.get(args[0])) : List.of());
                default -> throw new UnsupportedOperationException(called.getName());
            });
        return CrossOrigin.check(r, List.of()) == null;
    }

    @Test
    void traceAndWebSocketsAreUnsafe() {
        Map<String, String> evil = Map.of("Host", "shop.example", "Origin", "https://evil.example");
        assertEquals(true, passes("GET", evil));
        assertEquals(false, passes("TRACE", evil));
        assertEquals(false, passes("GET", Map.of("Host", "shop.example", "Origin", "https://evil.example", "Upgrade", "WebSocket")));
        assertEquals(true, passes("GET", Map.of("Host", "shop.example", "Origin", "https://shop.example", "Upgrade", "websocket")));
    }

    @Test
    void anOriginWithoutAHostMatchesNoRequestWithoutAHost() {
        assertEquals(false, passes("POST", Map.of("Origin", "null")));
    }
}
