package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.SessionException;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.lang.System.Logger.Level;
import org.springframework.core.Ordered;
import org.springframework.session.web.http.SessionRepositoryFilter;

/**
 * Responds to the errors of sessions with their status: 503 if the store is down, never an empty
 * session.
 */
public final class SessionErrorFilter implements Filter, Ordered {
    private static final System.Logger LOG = System.getLogger("coatcheck");

    @Override
    public int getOrder() {
        return SessionRepositoryFilter.DEFAULT_ORDER - 1;
    }

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain) throws IOException, ServletException {
        try {
            chain.doFilter(request, response);
        } catch (IOException | ServletException | RuntimeException e) {
            SessionException cause = find(e);
            if (cause == null || response.isCommitted() || !(response instanceof HttpServletResponse w)) {
                throw e;
            }
            LOG.log(cause.status() < 500 ? Level.INFO : Level.ERROR, "session: request failed: " + cause.getMessage(), cause);
            w.resetBuffer();
            w.setStatus(cause.status());
            w.setHeader("Cache-Control", "no-store");
            if (cause.status() == 503 && cause.kind() != SessionException.Kind.UNKNOWN_OUTCOME) {
                w.setHeader("Retry-After", "1");
            }
            w.setContentType("text/plain; charset=utf-8");
            w.setContentLength(-1);
            w.getOutputStream().write((cause.clientMessage() + "\n").getBytes(java.nio.charset.StandardCharsets.UTF_8));
        }
    }

    private static SessionException find(Throwable e) {
        for (int depth = 0; e != null && depth < 10; depth++, e = e.getCause()) {
            if (e instanceof SessionException found) {
                return found;
            }
        }
        return null;
    }
}
