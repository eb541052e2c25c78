create role conformance_reader nologin;
grant conformance_reader to postgres;
