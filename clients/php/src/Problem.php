<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** What went wrong. Each problem has an HTTP status, and one sentence for the client. */
enum Problem
{
    /** The store did not answer. Nothing was stored. */
    case Unavailable;
    /** The store did not answer after a change was sent. The change may have been stored. */
    case UnknownOutcome;
    /** The session ended, or got another token, while the request ran. Its changes are refused. */
    case Ended;
    /** The user has as many sessions as Config::$maxPerUser allows. */
    case TooMany;
    /** Nobody is signed in. */
    case NotSignedIn;
    /** The route requires a newer or stronger authentication. */
    case NotFresh;
    /** The user's sessions were revoked after this authentication began. */
    case Revoked;
    /** The user has no session with this handle. */
    case NotFound;
    /** The request carries two tokens, and no rule says which one counts. */
    case Ambiguous;
    /** Another site caused the request. */
    case CrossOrigin;
    /** The request has no CSRF token of its session. */
    case Csrf;
    /** addWithin or setWithin was refused and stored nothing. The session takes more changes. */
    case Limit;
    /** The session would exceed Config::$maxSize or a limit of the format. */
    case TooLarge;
    /** A name, a value, a sum, a Login, a user or a handle is not valid. */
    case Invalid;
    /** A stored value cannot be read as what the field expects. */
    case Decode;
    /** No key of Config::$keys opens a stored value. */
    case Sealed;
    /** A change needs a new cookie, and the response was made already. */
    case HeaderSent;

    public function status(): int
    {
        return match ($this) {
            self::Unavailable, self::UnknownOutcome => 503,
            self::Ended, self::TooMany, self::Limit => 409,
            self::NotSignedIn, self::NotFresh, self::Revoked => 401,
            self::NotFound => 404,
            self::Ambiguous => 400,
            self::CrossOrigin, self::Csrf => 403,
            default => 500,
        };
    }

    /** The sentence for the client. It does not tell the cause. */
    public function message(): string
    {
        return match ($this) {
            self::Unavailable => 'The service is not available at the moment. Please try again.',
            self::UnknownOutcome => 'It is not known whether your change was saved. Please check before you try again.',
            self::Ended => 'Your session has changed. Please reload and try again.',
            self::TooMany => 'You are signed in on as many devices as allowed. Please sign out on one of them.',
            self::Limit => 'This is more than allowed. Nothing was changed.',
            self::NotSignedIn => 'Please sign in.',
            self::NotFresh, self::Revoked => 'Please sign in again.',
            self::NotFound => 'There is no such session.',
            self::Ambiguous => 'The request carries two different session tokens. Please delete this site\'s cookies.',
            self::CrossOrigin => 'Cross-origin request refused.',
            self::Csrf => 'This page is out of date. Please reload it and try again.',
            default => 'Something went wrong. The error has been logged.',
        };
    }
}
