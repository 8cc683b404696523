// Shows the gateway's own document. A file of its own, since the page's policy allows no script inside of HTML.
"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // By default it shows a badge from swagger.io, which would be told the document's address.
  validatorUrl: null,
  // A token stays in the page's memory, and goes with it.
  persistAuthorization: false,
});
