package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import org.springframework.session.web.http.HttpSessionIdResolver;

/** Reads and writes the cookies that all languages share. Only a token of ours is an id. */
public final class CoatcheckSessionIdResolver implements HttpSessionIdResolver {
    private final Sessions sessions;

    public CoatcheckSessionIdResolver(Sessions sessions) {
        this.sessions = sessions;
    }

    private static List<String> cookies(HttpServletRequest request) {
        return Collections.list(request.getHeaders("Cookie"));
    }

    @Override
    public List<String> resolveSessionIds(HttpServletRequest request) {
        return sessions.tokens(cookies(request));
    }

    @Override
    public void setSessionId(HttpServletRequest request, HttpServletResponse response, String sessionId) {
        HttpSession session = request.getSession(false);
        if (session != null && session.getAttribute(CoatcheckSession.NATIVE) instanceof Session s) {
            s.writeHeaders(headers(response));
            if (!s.user().isEmpty()) {
                sessions.deleteCookies(cookies(request), true, headers(response));
            }
        }
    }

    @Override
    public void expireSession(HttpServletRequest request, HttpServletResponse response) {
        sessions.deleteCookies(cookies(request), false, headers(response));
    }

    private static Session.Headers headers(HttpServletResponse response) {
        return new Session.Headers() {
            @Override
            public void add(String name, String value) {
                response.addHeader(name, value);
            }

            @Override
            public void set(String name, String value) {
                response.setHeader(name, value);
            }

            @Override
            public Collection<String> get(String name) {
                return response.getHeaders(name);
            }
        };
    }
}
