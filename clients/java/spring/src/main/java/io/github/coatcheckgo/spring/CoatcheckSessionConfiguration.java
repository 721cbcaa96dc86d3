package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Sessions;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.session.config.annotation.web.http.EnableSpringHttpSession;
import org.springframework.session.web.http.HttpSessionIdResolver;

/**
 * Keeps the sessions of a Spring application in Coatcheck. Import it, and declare a bean
 * {@link Sessions}; a bean {@link Attributes} is optional.
 */
@Configuration(proxyBeanMethods = false)
@EnableSpringHttpSession
public class CoatcheckSessionConfiguration {
    /** The repository. */
    @Bean
    public CoatcheckSessionRepository coatcheckSessionRepository(Sessions sessions, ObjectProvider<Attributes> attributes) {
        return new CoatcheckSessionRepository(sessions, attributes.getIfAvailable(Attributes::new));
    }

    /** The cookies. */
    @Bean
    public HttpSessionIdResolver coatcheckSessionIdResolver(Sessions sessions) {
        return new CoatcheckSessionIdResolver(sessions);
    }

    /** The responses to errors. */
    @Bean
    public SessionErrorFilter coatcheckSessionErrorFilter() {
        return new SessionErrorFilter();
    }
}
